"""The folder of findings: what was put is there again, and whatever else is found in it does no harm."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.runtimes.spec import ClassifierSpec
from consumer.tuning.findings import Finding
from consumer.tuning.store import FILE, MOST_ENTRIES, Busy, Store
from shared.model_config import Preprocessing
from shared.state.cards import Trial
from tests.children import ROOT, clean_environment

HERE = {"machine": "cpu x", "weights": "w 1"}
SPEC = ClassifierSpec(Preprocessing(), ("cat", "dog"))
FINDING = Finding(
    "onnxruntime",
    "fp32",
    "it agrees.",
    46,
    1.0,
    0.0,
    1.0,
    ((1, 0.004), (8, 0.02)),
    8,
    (Trial("onnxruntime", "fp32", "chosen.", 400.0, 8),),
    12.5,
)
BYTES = b"an exported network"


def store(folder: Path, circumstances: dict[str, str] = HERE, model: str = "m") -> Store:
    return Store(folder / "tuned", model, circumstances)


def put(kept: Store, content: bytes = BYTES, finding: Finding = FINDING) -> None:
    with kept.lock(), kept.room() as room:
        files = room / "onnxruntime-fp32"
        files.mkdir()
        (files / "model.onnx").write_bytes(content)
        kept.put(finding, SPEC, files)


def model_file(kept: Store) -> Path:
    entry = kept.find()
    assert entry is not None
    return entry.folder / "model.onnx"


def rest(folder: Path) -> list[str]:
    """What is in the folder of all entries, locks aside."""
    return sorted(path.name for path in (folder / "tuned").iterdir() if path.suffix != ".lock")


def test_what_was_put_is_found_again_by_another_process_of_the_same_circumstances(tmp_path: Path) -> None:
    assert (store(tmp_path).find(), store(tmp_path).stamp()) == (None, None)
    put(store(tmp_path))
    entry = store(tmp_path).find()
    assert entry is not None
    assert (entry.finding, entry.spec, entry.stamp) == (FINDING, SPEC, store(tmp_path).stamp())
    assert (entry.folder / "model.onnx").read_bytes() == BYTES
    assert rest(tmp_path) == [store(tmp_path).folder.name]


def test_other_circumstances_and_other_models_have_entries_of_their_own(tmp_path: Path) -> None:
    put(store(tmp_path))
    foreign = store(tmp_path, {**HERE, "machine": "cpu y"})
    assert foreign.find() is None
    assert store(tmp_path, model="n").find() is None
    put(foreign, b"another")
    assert model_file(foreign).read_bytes() == b"another"
    assert model_file(store(tmp_path)).read_bytes() == BYTES


def test_of_too_many_entries_of_a_model_the_oldest_go_unless_they_are_searched_for(tmp_path: Path) -> None:
    made = [store(tmp_path, {"weights": str(number)}) for number in range(MOST_ENTRIES + 2)]
    others = [store(tmp_path, model=name) for name in ("m-n", "mm", "m-0123456789abcdef")]
    for age, one in enumerate((*others, *made)):
        if one is made[-1]:
            with made[1].lock():
                put(one)
        else:
            put(one)
            os.utime(one.folder / FILE, (age, age))
    assert all(one.find() for one in others)
    assert [one.find() is not None for one in made] == [False, True] + [True] * MOST_ENTRIES
    put(made[-1])
    assert [one.find() is not None for one in made] == [False, False] + [True] * MOST_ENTRIES


def test_a_new_entry_has_another_stamp_and_leaves_the_files_of_before_to_those_who_read_them(tmp_path: Path) -> None:
    kept = store(tmp_path)
    put(kept)
    before, old = kept.stamp(), model_file(kept)
    put(kept, b"second")
    assert kept.stamp() != before
    assert old.read_bytes() == BYTES
    assert model_file(kept).read_bytes() == b"second"
    put(kept, b"third")
    assert not old.exists()
    assert len(list(kept.folder.iterdir())) == 3  # the document, its files, and those of before


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("in the way")


def pipe_instead(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_instead(path: Path) -> None:
    other = path.with_name("elsewhere")
    path.rename(other)
    path.symlink_to(other)


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def huge(path: Path) -> None:
    os.truncate(path, 1 << 42)  # four tebibytes of nothing: reading them would take hours


def document(**changes: Any) -> Callable[[Path], None]:
    """Return what changes fields of the document."""

    def change(path: Path) -> None:
        found = json.loads(path.read_bytes())
        for name, value in changes.items():
            where, _, inner = name.partition("__")
            if inner:
                found[where][inner] = value
            else:
                found[where] = value
        path.write_text(json.dumps(found))

    return change


def content(value: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(value)

    return change


HARM: list[Callable[[Path], None]] = [
    truncate,
    folder_instead,
    pipe_instead,
    link_instead,
    link_to_itself,
    huge,
    *(content(value) for value in (b"", b"{", b"\xff\xfe", b"null", b"[]", b"[" * 100_000, b'{"a":1}')),
    document(circumstances={"machine": "another"}),
    document(circumstances=None),
    document(part="../../somewhere"),
    document(part=""),
    document(part="."),
    document(part="no-such-part"),
    document(part="nul\0"),
    document(files={"../entry.json": {"size": 1, "sha256": "0"}}),
    document(files={"model.onnx": {"size": len(BYTES), "sha256": "0" * 64}}),
    document(files={"gone.onnx": {"size": 1, "sha256": "0"}}),
    document(files={"x" * 300: {"size": 1, "sha256": "0"}}),
    document(files=[]),
    document(finding__runtime="rm -rf"),
    document(finding__precision="auto"),
    document(finding__preferred=0),
    document(finding__preferred=10**9),
    document(finding__preferred=10**400),
    document(finding__measured=[]),
    document(finding__measured=[[8, 0.1], [1, 0.1]]),
    document(finding__measured=[[1, 0.1], [1, 0.1]]),
    document(finding__measured=[[1, -1.0]]),
    document(finding__measured=[[1, 0.0]]),
    document(finding__measured=[[0, 1.0]]),
    document(finding__trials="none"),
    document(spec={}),
]


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_entry_is_a_sentence_in_the_log_and_the_next_search_replaces_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    kept = store(tmp_path)
    put(kept)
    harm(kept.folder / FILE)
    with caplog.at_level(logging.WARNING):
        assert kept.find() is None
    [record] = caplog.records
    assert f"{kept.folder} is damaged: " in record.getMessage()
    damaged = kept.stamp()
    put(kept, b"new")
    assert model_file(kept).read_bytes() == b"new"
    assert kept.stamp() not in (damaged, None)


@pytest.mark.parametrize(
    "harm", [truncate, folder_instead, pipe_instead, link_instead, link_to_itself, huge, Path.unlink]
)
def test_a_damaged_file_of_the_runtime_is_not_used_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    kept = store(tmp_path)
    put(kept, BYTES * 10)
    harm(model_file(kept))
    with caplog.at_level(logging.WARNING):
        assert kept.find() is None
    assert "is damaged: " in caplog.text
    put(kept)
    assert model_file(kept).read_bytes() == BYTES


@given(st.binary(max_size=200), st.integers(0, 2000))
def test_whatever_is_written_over_the_document_is_never_taken_for_another_finding(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int
) -> None:
    kept = store(tmp_path_factory.mktemp("noise"))
    put(kept)
    file = kept.folder / FILE
    before = file.read_bytes()
    place = min(place, len(before))
    file.write_bytes(before[:place] + noise + before[place + len(noise) :])
    entry = kept.find()
    assert entry is None or (entry.folder / "model.onnx").read_bytes() == BYTES


@pytest.mark.parametrize("what", ["file", "link", "dangling link"])
def test_something_else_in_the_place_of_the_entry_makes_way(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    kept, target = store(tmp_path), tmp_path / "precious"
    kept.folder.parent.mkdir()
    if what == "file":
        kept.folder.write_text("in the way")
    else:
        kept.folder.symlink_to(target)
    if what == "link":
        target.mkdir()
        (target / "mine").write_text("mine")
    with caplog.at_level(logging.WARNING):
        assert kept.find() is None
    put(kept)
    assert model_file(kept).read_bytes() == BYTES
    assert what != "link" or [path.name for path in target.iterdir()] == ["mine"]


def test_a_file_in_the_place_of_the_folder_of_all_is_an_error_when_something_is_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / "tuned").write_text("in the way")
    kept = store(tmp_path)
    assert (kept.find(), kept.stamp(), kept.is_being_searched()) == (None, None, False)
    with pytest.raises(OSError, match="exists"):
        put(kept)
    assert (tmp_path / "tuned").read_text() == "in the way"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let this process write no file that is longer, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_without_room_for_the_document_the_entry_of_before_stays(tmp_path: Path) -> None:
    kept = store(tmp_path)
    put(kept)
    stamp = kept.stamp()
    with kept.lock(), kept.room() as room:
        files = room / "files"
        files.mkdir()
        (files / "model.onnx").write_bytes(b"x")
        with pytest.raises(OSError, match="too large"), files_of_at_most(100):
            kept.put(FINDING, SPEC, files)
    assert (kept.stamp(), model_file(kept).read_bytes()) == (stamp, BYTES)
    assert len(list(kept.folder.iterdir())) == 2
    assert rest(tmp_path) == [kept.folder.name]


def test_a_room_goes_whatever_happens_in_it(tmp_path: Path) -> None:
    kept = store(tmp_path)

    def fail() -> None:
        with kept.lock(), kept.room() as room:
            (room / "deep" / "er").mkdir(parents=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert rest(tmp_path) == []


def test_what_a_killed_search_left_is_swept_and_a_running_ones_room_is_not(tmp_path: Path) -> None:
    kept, other, third = store(tmp_path), store(tmp_path, model="other"), store(tmp_path, model="third")
    for one in (kept, other, third):
        with one.lock():
            pass
        left = tmp_path / "tuned" / f".{one.folder.name}-killed"
        left.mkdir()
        (left / "model.onnx").write_bytes(BYTES)
    with third.lock(), kept.lock(), kept.room():
        assert rest(tmp_path)[1:] == [f".{third.folder.name}-killed"]
        assert rest(tmp_path)[0].startswith(f".{kept.folder.name}-")
    assert rest(tmp_path) == [f".{third.folder.name}-killed"]


def test_the_folders_are_the_users_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        put(store(tmp_path / "data"))
    finally:
        os.umask(old)
    modes = {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "data").rglob("*") if path.is_dir()}
    assert modes == {"0o700"}
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.name != "model.onnx"]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    kept, precious = store(tmp_path), tmp_path / "precious"
    kept.folder.parent.mkdir()
    precious.write_text("mine")
    Path(f"{kept.folder}.lock").symlink_to(precious)
    with pytest.raises(OSError, match="symbolic"), kept.lock():
        pass
    assert precious.read_text() == "mine"


HOLD = """
import sys
from pathlib import Path
from tests.unit.consumer.tuning.test_store import put, store
kept = store(Path(sys.argv[1]))
with kept.lock():
    print("held", flush=True)
    sys.stdin.read()
"""

PUT_OFTEN = """
import sys
from pathlib import Path
from tests.unit.consumer.tuning.test_store import put, store
print("begins", flush=True)
for count in range(30):
    put(store(Path(sys.argv[1])), sys.argv[1].encode() * 10 + b"%d" % count)
"""


@contextmanager
def another_process(script: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script on the folder; it has begun when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() in ("held\n", "begins\n")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_one_at_a_time_and_a_killed_one_holds_nobody_up(tmp_path: Path) -> None:
    kept, foreign = store(tmp_path), store(tmp_path, {**HERE, "machine": "cpu y"})
    assert not kept.is_being_searched()
    with another_process(HOLD, tmp_path) as process:
        assert kept.is_being_searched()
        with pytest.raises(Busy), kept.lock(waits=False):
            pass
        put(foreign, b"another machine's")  # another entry has another lock
        waited = threading.Thread(target=lambda: put(kept), daemon=True)
        waited.start()
        assert kept.find() is None
        process.kill()
        waited.join(20)
    assert model_file(kept).read_bytes() == BYTES
    assert not kept.is_being_searched()


def test_who_reads_while_others_write_sees_a_whole_entry_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = store(tmp_path)
    put(kept)
    found, stamps = 0, set()
    with (
        caplog.at_level(logging.WARNING),
        another_process(PUT_OFTEN, tmp_path) as one,
        another_process(PUT_OFTEN, tmp_path) as two,
    ):
        while one.poll() is None or two.poll() is None:
            stamp = kept.stamp()
            assert stamp is not None
            stamps.add(stamp)
            found += kept.find() is not None
        assert (one.returncode, two.returncode) == (0, 0)
    assert found > 0
    assert len(stamps) > 1
    # Who was overtaken twice while it read found files gone; nobody ever found another entry's.
    told = [record.getMessage() for record in caplog.records if record.name.startswith("consumer.tuning")]
    assert all("No such file" in sentence for sentence in told)
    assert model_file(kept).read_bytes().endswith(b"29")
    assert rest(tmp_path) == [kept.folder.name]


def test_a_folder_that_is_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    kept = store(tmp_path)
    put(kept)
    shutil.rmtree(tmp_path / "tuned")
    assert (kept.find(), kept.stamp()) == (None, None)
    put(kept)
    assert model_file(kept).read_bytes() == BYTES
