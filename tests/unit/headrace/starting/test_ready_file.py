"""The file that says where a stack listens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.starting.ready_file import ReadyFile
from shared.settings import SettingsError

URL = "http://127.0.0.1:8000"


def test_it_is_there_while_the_stack_is(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    file = ReadyFile(path)
    assert list(tmp_path.iterdir()) == []
    file.write(URL)
    assert path.read_text() == f"{URL}\n"
    assert list(tmp_path.iterdir()) == [path]
    file.remove()
    assert list(tmp_path.iterdir()) == []
    file.remove()


def test_what_a_killed_stack_left_behind_goes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ready"
    path.write_text(f"{URL}\n")
    ReadyFile(path)
    assert not path.exists()


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    mine, link, pipe = tmp_path / "mine", tmp_path / "link", tmp_path / "pipe"
    mine.write_text("mine")
    link.symlink_to(mine)
    os.mkfifo(pipe)
    for place in (mine, link, pipe, tmp_path, tmp_path / "none" / "ready", Path("/dev/null"), Path("/proc/ready")):
        with pytest.raises(SettingsError, match=r"^--ready-file: .* cannot be used: .*\.$"):
            ReadyFile(place)
    assert mine.read_text() == "mine"
