"""What was measured is kept, and nothing that happens to the file does harm."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from consumer.notes import Notes


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_was_put_is_there_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "when needed"
    Notes(folder, "m", {"torch": "2"}).put("recipe", ["a", "b"])
    again = Notes(folder, "m", {"torch": "2"})
    again.put("precision", {"precision": "bf16"})
    last = Notes(folder, "m", {"torch": "2"})
    assert (last.get("recipe"), last.get("precision"), last.get("other")) == (["a", "b"], {"precision": "bf16"}, None)


def test_other_circumstances_see_nothing(tmp_path: Path) -> None:
    Notes(tmp_path, "m", {"torch": "2"}).put("recipe", ["a"])
    assert Notes(tmp_path, "m", {"torch": "3"}).get("recipe") is None
    assert Notes(tmp_path, "n", {"torch": "2"}).get("recipe") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"circumstances":{"torch":"2"},"values":[1]}', b"[" * 100_000]
)
def test_a_damaged_file_is_not_used_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    Notes(tmp_path, "m", {"torch": "2"}).put("recipe", ["a"])
    only_file(tmp_path).write_bytes(content)
    notes = Notes(tmp_path, "m", {"torch": "2"})
    assert notes.get("recipe") is None
    notes.put("recipe", ["b"])
    assert Notes(tmp_path, "m", {"torch": "2"}).get("recipe") == ["b"]


def test_a_file_copied_from_elsewhere_is_not_used(tmp_path: Path) -> None:
    Notes(tmp_path, "m", {"torch": "2"}).put("recipe", ["a"])
    content = only_file(tmp_path).read_bytes()
    Notes(tmp_path / "b", "m", {"torch": "3"}).put("recipe", ["b"])
    only_file(tmp_path / "b").write_bytes(content)
    assert Notes(tmp_path / "b", "m", {"torch": "3"}).get("recipe") is None


def test_a_folder_that_cannot_be_written_costs_only_the_notes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    notes = Notes(tmp_path / "file", "m")
    with caplog.at_level(logging.WARNING):
        notes.put("recipe", ["a"])
    assert notes.get("recipe") == ["a"]
    assert "cannot be kept" in caplog.text


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    notes = Notes(tmp_path, "m")
    for number in range(3):
        notes.put("recipe", number)
    assert only_file(tmp_path).suffix == ".json"


def test_without_a_folder_notes_live_in_memory() -> None:
    notes = Notes()
    notes.put("recipe", ["a"])
    assert notes.get("recipe") == ["a"]


def test_the_folders_of_notes_are_the_users_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        Notes(tmp_path / "data" / "notes", "m").put("a", 1)
    finally:
        os.umask(old)
    places = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert [oct(place.stat().st_mode & 0o777) for place in places] == ["0o700", "0o700", "0o600"]
