"""The examples of docs/text-models.md: the commands against the running stack, the table as a consumer reads it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from shared.model_config import parse
from tests.children import ROOT
from tests.e2e.text.conftest import Place

PAGE = (ROOT / "docs/text-models.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if "curl" in line and "minilm" in line
]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_command(place: Place, command: str) -> None:
    here = command.replace("http://127.0.0.1:8000", place.stack.url).replace("minilm", place.model)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", here.replace("curl ", "curl -sS --fail-with-body ", 1)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = {one["name"]: one["shape"] for one in json.loads(done.stdout)["outputs"]}
    rows = 2 if '"shape": [2]' in command else 1
    assert outputs == {"embedding": [rows, 384], "tokens": [rows]}


def test_the_table_of_the_page_is_one() -> None:
    [table] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    text = parse(table)["mood"].text
    assert text is not None
    assert (text.task, text.batch_tokens, text.request_tokens) == ("classification", 2048, 65536)
