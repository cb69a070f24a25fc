"""What was measured is kept, and nothing that happens to the file does harm."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.loading.start_cache import StartCache
from tests.children import ROOT, clean_environment


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_was_put_is_there_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "when needed"
    StartCache(folder, "m", {"torch": "2"}).put("recipe", ["a", "b"])
    again = StartCache(folder, "m", {"torch": "2"})
    again.put("precision", {"precision": "bf16"})
    last = StartCache(folder, "m", {"torch": "2"})
    assert (last.get("recipe"), last.get("precision"), last.get("other")) == (["a", "b"], {"precision": "bf16"}, None)


def test_other_circumstances_see_nothing(tmp_path: Path) -> None:
    StartCache(tmp_path, "m", {"torch": "2"}).put("recipe", ["a"])
    assert StartCache(tmp_path, "m", {"torch": "3"}).get("recipe") is None
    assert StartCache(tmp_path, "n", {"torch": "2"}).get("recipe") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"circumstances":{"torch":"2"},"values":[1]}', b"[" * 100_000]
)
def test_a_damaged_file_is_not_used_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    StartCache(tmp_path, "m", {"torch": "2"}).put("recipe", ["a"])
    only_file(tmp_path).write_bytes(content)
    notes = StartCache(tmp_path, "m", {"torch": "2"})
    assert notes.get("recipe") is None
    notes.put("recipe", ["b"])
    assert StartCache(tmp_path, "m", {"torch": "2"}).get("recipe") == ["b"]


def test_a_file_copied_from_elsewhere_is_not_used(tmp_path: Path) -> None:
    StartCache(tmp_path, "m", {"torch": "2"}).put("recipe", ["a"])
    content = only_file(tmp_path).read_bytes()
    StartCache(tmp_path / "b", "m", {"torch": "3"}).put("recipe", ["b"])
    only_file(tmp_path / "b").write_bytes(content)
    assert StartCache(tmp_path / "b", "m", {"torch": "3"}).get("recipe") is None


def test_a_folder_that_cannot_be_written_costs_only_the_notes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    notes = StartCache(tmp_path / "file", "m")
    with caplog.at_level(logging.WARNING):
        notes.put("recipe", ["a"])
    assert notes.get("recipe") == ["a"]
    assert "cannot be stored" in caplog.text


def test_no_temporary_file_is_left(tmp_path: Path) -> None:
    notes = StartCache(tmp_path, "m")
    for number in range(3):
        notes.put("recipe", number)
    assert only_file(tmp_path).suffix == ".json"


def test_without_a_folder_notes_live_in_memory() -> None:
    notes = StartCache()
    notes.put("recipe", ["a"])
    assert notes.get("recipe") == ["a"]


def test_the_folders_of_notes_are_the_users_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        StartCache(tmp_path / "data" / "notes", "m").put("a", 1)
    finally:
        os.umask(old)
    places = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert [oct(place.stat().st_mode & 0o777) for place in places] == ["0o700", "0o700", "0o600"]


MEASURE = """
import sys, time
from pathlib import Path
from consumer.loading.start_cache import StartCache
notes = StartCache(Path(sys.argv[1]), "m", {"torch": "2"})
print("begins", flush=True)
with notes.lock():
    if notes.get("measured") is None:
        time.sleep(0.3)
        notes.put("measured", sys.argv[2])
        print("measured", flush=True)
"""


def test_of_several_processes_one_measures_and_the_others_read(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEASURE, str(tmp_path), str(number)],
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    said = [process.communicate(timeout=50)[0].split() for process in processes]
    assert sorted(said) == [["begins"], ["begins"], ["begins", "measured"]]
    assert StartCache(tmp_path, "m", {"torch": "2"}).get("measured") == str(said.index(["begins", "measured"]))


def test_a_lock_that_cannot_be_made_is_a_remark_and_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    notes = StartCache(tmp_path / "file", "m")
    with caplog.at_level(logging.WARNING), notes.lock():
        notes.put("measured", 1)
    assert "cannot be shared" in caplog.text
    with StartCache().lock():
        pass


def test_who_fails_while_it_measures_holds_nobody_up(tmp_path: Path) -> None:
    notes = StartCache(tmp_path, "m")
    with pytest.raises(ZeroDivisionError), notes.lock():
        raise ZeroDivisionError
    with StartCache(tmp_path, "m").lock():
        pass


def test_others_of_the_machine_read_nothing_of_it(tmp_path: Path) -> None:
    """Else `headrace up` says at its next start that its folder was open."""
    cache = StartCache(tmp_path / "notes", "m", {"torch": "2"})
    with cache.lock():
        cache.put("recipe", ["a"])
    files = list((tmp_path / "notes").iterdir())
    assert {path.suffix for path in files} == {".json", ".lock"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
