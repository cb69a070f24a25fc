"""The commands of docs/later.md against a running stack, in their order."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, echo_models

_ROOT = Path(__file__).resolve().parents[3]
_PAGE = (_ROOT / "docs/later.md").read_text(encoding="utf-8")
_COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", _PAGE, re.DOTALL) for line in block.splitlines()]
_SAYS = {"/events": "event: done", "wait=20'": '"outputs"', "wait=20' ": "200 OK"}
"""What the answers to some must hold."""


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(valkey_url, echo_models(tmp_path_factory.mktemp("models"), "later-doc")) as running:
        running.start_front_end()
        running.start_consumer("later-doc")
        running.wait("later-doc")
        yield running


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_work(stack: Stack) -> None:
    for command in _COMMANDS:
        here = command.replace("http://127.0.0.1:8000", stack.url).replace("/models/echo/", "/models/later-doc/")
        curl = here.replace("curl ", "curl -sS --fail-with-body ", 1)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", curl], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, command + done.stdout + done.stderr
        for part, said in _SAYS.items():
            assert part not in command or said in done.stdout, command + done.stdout


def test_the_page_shows_every_way_to_wait() -> None:
    text = "\n".join(_COMMANDS)
    for way in ("Prefer: respond-async'", "wait=20' -H", "?wait=20", "/events"):
        assert way in text
