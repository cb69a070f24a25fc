"""The commands of docs/runtimes.md, as a reader would run them: against a stack, against nothing, and as settings."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.settings import Settings
from tests.children import ROOT
from tests.unit.headrace.stacks import Running, own_stack

PAGE = (ROOT / "docs/runtimes.md").read_text("utf-8")
LINES = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
STARTS = [line for line in LINES if line.endswith(" make up")]
LOOKS = [line for line in LINES if line.startswith("curl ") or " headrace status" in line]
BRIEF = {"HEADRACE_TUNE_BUDGET_S": "1"}  # torch is run all the same, and then there is no time for anything else
SMALL = """\
[models.imagenet]
family = "torchvision"
architecture = "mobilenet_v3_small"
weights = "random"
preprocessing = { resize = 64, crop = 64 }
"""

pytestmark = pytest.mark.timeout(240)


def _run(command: str, folder: Path, **settings: str) -> str:
    python = shlex.quote(sys.executable)
    here = command.replace(".venv/bin/python", python).replace(".headrace/", f"{folder}/data/")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", here],
        cwd=ROOT,
        env={**environment, "HEADRACE_DATA_DIR": str(folder / "data"), **settings},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A small network in torch, under the default model's name; nothing is searched for."""
    folder = tmp_path_factory.mktemp("runtimes-page")
    (folder / "models.toml").write_text(SMALL)
    environment = {**own_stack(folder, "imagenet"), "HEADRACE_TUNE": "off"}
    with Running([sys.executable, "-m", "headrace", "up"], environment) as running:
        running.until(r"Ctrl-C stops everything")
        yield running


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("command", LOOKS)
def test_what_a_reader_looks_at_is_shown(stack: Running, command: str, tmp_path: Path) -> None:
    [api] = re.findall(r"API +http://(\S+)", stack.output)
    [redis_url] = re.findall(r"Redis +(\S+)", stack.output)
    shown = _run(command.replace("127.0.0.1:8000", api), tmp_path, HEADRACE_REDIS_URL=redis_url)
    assert "torch" in shown
    assert "fp32" in shown


@pytest.mark.parametrize("line", STARTS)
def test_a_way_to_start_is_made_of_settings_that_there_are(line: str) -> None:
    settings: Any = dict(word.split("=", 1) for word in shlex.split(line)[:-2])
    assert settings
    Settings.from_env(settings)


@pytest.mark.soak  # headrace tune is in test_tune_command.py
def test_a_search_ahead_of_time_fills_the_folder_which_may_be_deleted(tmp_path: Path) -> None:
    [tune] = [line for line in LINES if " headrace tune " in line]
    [look] = [line for line in LINES if line.startswith("ls ")]
    [delete] = [line for line in LINES if line.startswith("rm ")]
    (tmp_path / "models.toml").write_text(SMALL)
    _run(tune, tmp_path, HEADRACE_MODELS_FILE=str(tmp_path / "models.toml"), **BRIEF)
    listed = _run(look, tmp_path)
    [entry] = [name for name in listed.split() if re.fullmatch(r"imagenet-[0-9a-f]{16}", name)]
    document = json.loads((tmp_path / "data" / "tuned" / entry / "entry.json").read_text())
    assert document["finding"]["runtime"] == "torch"
    outcomes = {trial["outcome"] for trial in document["finding"]["trials"]}
    assert {"chosen.", "not tried: the 1 s for the search were over."} <= outcomes
    _run(delete, tmp_path)
    assert not (tmp_path / "data" / "tuned").exists()


def test_the_page_has_commands_of_each_kind() -> None:
    assert len(STARTS) >= 3
    assert len(LOOKS) >= 2
    [measure] = [line for line in LINES if "tests.perf.bench" in line]
    assert "--only runtimes" in measure
