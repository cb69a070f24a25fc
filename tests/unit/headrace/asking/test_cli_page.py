"""docs/cli.md has every command and every exit code; help texts name no other code."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from headrace.__main__ import main
from headrace.exit_codes import TABLE
from headrace.options import Duration
from tests.children import ROOT
from tests.unit.headrace.operators import headrace

PAGE = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
NOBODY = "redis://127.0.0.1:1/0"


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


ALL = dict(commands(main))


def _part(name: str) -> str:
    found = re.search(rf"<!-- {name}:begin.*?-->(.*?)<!-- {name}:end -->", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_every_command_is_on_the_page_and_no_other() -> None:
    table = _part("commands")
    named = {words.strip() for words in re.findall(r"`headrace ([a-z -]+)", table)}
    assert {name for name in ALL if not any(one == name or one.startswith(f"{name} ") for one in named)} == set()
    assert {one for one in named if not any(one == name or one.startswith(f"{name} ") for name in ALL)} == set()


def test_the_table_of_exit_codes_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", _part("exit-codes"), re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == TABLE


@pytest.mark.parametrize("name", sorted(ALL))
def test_help_names_no_other_code(name: str) -> None:
    text = " ".join((ALL[name].help or "").split())
    _, found, said = text.partition("Exit codes: ")
    if found:
        assert {int(code) for code in re.findall(r"(?:^|, |\. )(\d+) ", said)} <= TABLE.keys()


SECONDS = [
    pytest.param(option, id=f"{name} {option.opts[0]}")
    for name, command in ALL.items()
    for option in command.params
    if isinstance(option, click.Option) and (option.name or "").endswith("_s")
]


@pytest.mark.parametrize("option", SECONDS)
def test_every_option_that_counts_seconds_takes_durations(option: click.Option) -> None:
    assert isinstance(option.type, Duration)
    assert option.type.convert("1s250ms", option, None) == pytest.approx(1.25)
    assert option.type.convert("2", option, None) == 2


def test_a_duration_that_is_none_says_how_to_write_one() -> None:
    said = headrace(NOBODY, "status", "--interval", "soon")
    assert said.code == 2
    assert "write 250ms, 5s, 1m30s or 2h" in said.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_and_completes(shell: str) -> None:
    said = headrace(NOBODY, "completion", shell)
    assert said.code == 0
    assert "_HEADRACE_COMPLETE" in said.out
    assert headrace(NOBODY, "completion", "csh").code == 2


def test_the_version_is_shown() -> None:
    said = headrace(NOBODY, "--version")
    assert (said.code, said.out.startswith("headrace ")) == (0, True)
