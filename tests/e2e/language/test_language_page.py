"""The examples of docs/language-models.md against a running stack, with a model that repeats its prompt."""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from consumer.generation.weights.opening import CONTEXT, SLOTS
from consumer.models.families import build
from shared.model_config import parse
from tests.children import ROOT
from tests.e2e.stack import Stack

PAGE = (ROOT / "docs/language-models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = [
    example
    for kind, block in BLOCKS
    for example in ([block] if kind == "python" else [line for line in block.splitlines() if "curl" in line])
]


@pytest.fixture(scope="module")
def served(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, str]]:
    """A stack with the null generator."""
    model, models = f"test-writer-{secrets.token_hex(6)}", tmp_path_factory.mktemp("language-page") / "models.toml"
    models.write_text(f'[models.{model}]\nfamily = "generate"\narchitecture = "null"\n')
    with Stack(valkey_url, models) as stack:
        process = stack.begin_consumer(model)
        stack.start_front_end()
        process.until("Ready: ")
        stack.wait(model)
        yield stack, model


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example(served: tuple[Stack, str], example: str) -> None:
    stack, model = served
    here = example.replace("http://127.0.0.1:8000", stack.url).replace("smollm2", model)
    command = [sys.executable, "-c", here]
    if "curl" in example:
        command = ["bash", "-euo", "pipefail", "-c", here.replace("curl ", "curl -sS ", 1)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if "response_format" in example:
        assert "This model cannot hold a text to a schema." in done.stdout  # it is none; see test_several_families.py
    elif "curl" in example:
        assert re.search(r'"(content|text)": ?"', done.stdout) and '"error"' not in done.stdout
    else:
        assert "capital" in done.stdout


def test_the_options_of_the_page_are_those_there_are() -> None:
    [table] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    mine = parse(table)["mine"]
    assert mine.options == {"slots": SLOTS, "context": CONTEXT}
    assert build("mine", mine).describe().unit == "token"


def test_the_shipped_model_has_the_options_of_the_page() -> None:
    shipped = parse((ROOT / "models.toml").read_text(encoding="utf-8"))["smollm2"]
    assert (shipped.family, shipped.options) == ("generate", {"slots": SLOTS, "context": CONTEXT})
