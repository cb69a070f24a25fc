"""The examples of docs/rest.md against the real HTTP server over an in-memory queue."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.models.base import IMAGES, RAW
from shared.state.cards import TensorSpec
from tests.e2e.http_server import HttpServer
from tests.fakes import ECHO, LABELS, InMemoryQueue, card, classify, echo

_ROOT = Path(__file__).resolve().parents[3]
_BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", (_ROOT / "docs/rest.md").read_text(encoding="utf-8"), re.DOTALL)
_EXAMPLES = [line for kind, block in _BLOCKS for line in (block.splitlines() if kind == "sh" else [block])]


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    """Serves the models that the page speaks of."""
    queue = InMemoryQueue()
    picture = TensorSpec("input", "UINT8", (224, 224, 3))
    queue.serve("imagenet", card("imagenet", [picture], content_types=(*IMAGES, RAW), labels=LABELS), classify)
    queue.serve("echo", ECHO, echo)
    with HttpServer(queue=queue) as running:
        yield running


@pytest.mark.parametrize("example", _EXAMPLES, ids=range(len(_EXAMPLES)))
def test_example(server: HttpServer, example: str) -> None:
    here = example.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{server.port}")
    if example.startswith("import"):
        command = [sys.executable, "-c", here]
    else:
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        command = ["bash", "-euo", "pipefail", "-c", here.replace("curl ", "curl -sS --fail-with-body ")]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_the_page_has_examples_of_every_form() -> None:
    text = "\n".join(_EXAMPLES)
    for form in ("image/jpeg", "application/octet-stream", "application/json", "application/msgpack", "image_base64"):
        assert form in text
