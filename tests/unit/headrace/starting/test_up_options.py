"""Options of `up`, and those that stand before a command: what is wrong with them is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.__main__ import without_options
from tests.unit.headrace.operators import headrace

NOBODY = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--port", "many"), "--port must be a whole number, not 'many'."),
        (("--port", "70000"), "--port must lie between 0 and 65535"),
        (("--models", ","), "--models must name at least one model."),
        (("--models", "a b"), "A model in --models must be"),
        (("--models", "echo,echo"), "--models names a model twice"),
        (("--models", "imagnet"), "Model 'imagnet' is not in models.toml"),
        (("--models", "imagnet"), "Did you mean imagenet?"),
        (("--ready-file", "/nowhere/ready"), "--ready-file: /nowhere/ready cannot be used"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = headrace(NOBODY, "up", *arguments)
    told = said.err or capfd.readouterr().err
    assert said.code == 2
    assert says in told
    assert len(told.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--redis", "redis://x", "up", "--port", "0"], ["up", "--port", "0"]),
        (["--redis=redis://x", "lane", "guard"], ["lane", "guard"]),
        (["--version"], []),
        ([], []),
    ],
)
def test_the_command_behind_the_options(arguments: list[str], command: list[str]) -> None:
    assert without_options(arguments) == command
