"""The examples of docs/openai.md against a running stack."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.openai.conftest import Place
from tests.e2e.stack import call

_ROOT = Path(__file__).resolve().parents[3]
_PAGE = (_ROOT / "docs/openai.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", _PAGE, re.DOTALL)
_EXAMPLES = [example for kind, block in _BLOCKS for example in ([block] if kind == "python" else block.splitlines())]


@pytest.mark.parametrize("example", _EXAMPLES, ids=range(len(_EXAMPLES)))
def test_example(place: Place, example: str) -> None:
    here = example.replace("http://127.0.0.1:8000", place.stack.url)
    here = here.replace('"minilm"', f'"{place.letters}"').replace('"smollm2"', f'"{place.writer}"')
    if "curl" in example:
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        command = ["bash", "-euo", "pipefail", "-c", here.replace("curl ", "curl -sS --fail-with-body ")]
    else:
        command = [sys.executable, "-c", here]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    if '"stream": true' in example:
        assert done.stdout.endswith("data: [DONE]\n\n")


def test_every_endpoint_of_the_page_is_there(place: Place) -> None:
    paths = set(call(f"{place.stack.url}/openapi.json").body["paths"])
    named = re.findall(r"`(?:POST|GET) (/[a-z0-9/]+)", _PAGE)
    assert named and {one for one in named if not any(path.startswith(one) for path in paths)} == set()
