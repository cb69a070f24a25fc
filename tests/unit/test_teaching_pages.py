"""README and how-to guides: the figure of the first screen, and commands whose options and settings there are."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from headrace.__main__ import main
from shared.own_models import parse
from shared.settings import Settings
from tests.children import ROOT

README = (ROOT / "README.md").read_text()
HOWTO = (ROOT / "docs/howto.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", HOWTO, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]


def test_the_figure_of_the_first_screen_is_that_of_the_table() -> None:
    [(slow, fast)] = re.findall(r"`mobilenet_v3_small` answers ([\d,]+) pictures.*?\n.*?answers ([\d,]+) ", README)
    [row] = [line for line in README.splitlines() if line.startswith("| throughput, queue always full")]
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2] == f"{slow}/s"
    assert cells[4].startswith(f"{fast}/s, ")
    [machine] = re.findall(r"\*\*How fast\?\*\* On (2 cores \([^)]+\))", README)
    assert f"made this on {machine}" in README


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_guide_has_settings_and_options_that_there_are(line: str) -> None:
    words = shlex.split(line)
    settings = dict(word.split("=", 1) for word in words if re.match(r"HEADRACE_\w+=", word))
    Settings.from_env(settings)
    assert words[len(settings)] == "headrace"
    name, *arguments = words[len(settings) + 1 :]
    with main.commands[name].make_context(name, arguments) as context:
        assert isinstance(context, click.Context)
        for model in context.params.get("own", ()):
            place = model.rpartition("=")[2].partition(":")[0]
            assert parse(model.replace(place, str(ROOT / "examples/custom_model.py"))).entry


def test_a_guide_names_commands_that_there_are() -> None:
    named = re.findall(r"`headrace ([\w-]+)(?: ([\w-]+))?", HOWTO)
    assert len(named) > 4
    for name, _ in named:
        assert name in main.commands, name
