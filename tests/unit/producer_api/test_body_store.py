"""Bodies in shared memory: what one side keeps the other side reads, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from consumer.shared_bodies import SharedBodies
from producer_api.body_slots import Slots, slot_bytes
from producer_api.body_store import BodyStore
from shared import bodies
from shared.bodies import LEAST_BYTES, MOST_BYTES, STAMP
from tests.children import ROOT, clean_environment

PICTURE = bytes(range(256)) * 588
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bodies, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def store() -> Iterator[BodyStore]:
    made = BodyStore("fe-1", 4 * MIB)
    yield made
    made.close()


@pytest.fixture
def reader(store: BodyStore) -> Iterator[SharedBodies]:
    made = SharedBodies()
    assert made.identity() == store.identity != ""
    yield made
    made.close()


def test_a_body_is_read_where_it_is_said_to_be(store: BodyStore, reader: SharedBodies) -> None:
    places = [store.put(PICTURE[:size]) for size in (LEAST_BYTES, 70_000, len(PICTURE))]
    assert [len(reader.read(at.text()) or b"") for at in places if at] == [LEAST_BYTES, 70_000, len(PICTURE)]
    assert places[2] is not None and reader.read(places[2].text()) == PICTURE


def test_a_body_that_gave_way_to_another_is_not_read_as_that(store: BodyStore, reader: SharedBodies) -> None:
    first = store.put(PICTURE)
    assert first is not None
    store.drop(first)
    second = store.put(PICTURE[::-1])
    assert second is not None and second.offset == first.offset
    assert reader.read(first.text()) is None
    assert reader.read(second.text()) == PICTURE[::-1]


def test_nor_while_the_other_is_being_written(root: Path, store: BodyStore, reader: SharedBodies) -> None:
    at = store.put(PICTURE)
    assert at is not None
    with (root / f"headrace-{os.geteuid()}" / "fe-1").open("r+b") as file:  # its stamp is written, its body is not
        file.seek(at.offset)
        file.write(STAMP.pack(at.stamp + 1))
    assert reader.read(at.text()) is None


def test_a_file_that_was_cut_is_not_read_beyond_its_end(root: Path, store: BodyStore, reader: SharedBodies) -> None:
    at = store.put(PICTURE)
    assert at is not None
    os.truncate(root / f"headrace-{os.geteuid()}" / "fe-1", 1000)
    assert reader.read(at.text()) is None


@pytest.mark.parametrize(
    "text",
    ["", "x", "../../etc/passwd:0:10:1", "fe-1:0:10", "fe-1:-1:10:1", "fe-1:0:99999999999:1", "fe-2:0:100:1",
     f"fe-1:{'9' * 15}:100:1", "fe-1:0:100:1\n", "\udcff:0:1:1"],
)  # fmt: skip
def test_what_means_no_body_is_none(store: BodyStore, reader: SharedBodies, text: str) -> None:
    store.put(PICTURE)
    assert reader.read(text) is None


def test_a_link_or_a_pipe_in_the_folder_is_not_followed(root: Path, store: BodyStore, reader: SharedBodies) -> None:
    at = store.put(PICTURE)
    folder = root / f"headrace-{os.geteuid()}"
    (folder / "link").symlink_to(folder / "fe-1")
    os.mkfifo(folder / "pipe")
    assert at is not None
    assert reader.read(at._replace(file="link").text()) is None
    assert reader.read(at._replace(file="pipe").text()) is None


@pytest.mark.parametrize("size", [0, LEAST_BYTES - 1, MOST_BYTES + 1])
def test_small_and_large_bodies_go_through_the_queue(store: BodyStore, size: int) -> None:
    assert store.put(bytes(size)) is None
    assert store.used_bytes == 0


def test_without_room_there_is_none_until_something_is_given_back(store: BodyStore, reader: SharedBodies) -> None:
    places = []
    while (at := store.put(PICTURE)) is not None:
        places.append(at)
    assert 20 <= len(places) <= 4 * MIB // len(PICTURE)
    store.drop(places.pop())
    again = store.put(PICTURE)
    assert again is not None and reader.read(again.text()) == PICTURE


def test_other_sizes_find_room_once_nothing_is_left(store: BodyStore, reader: SharedBodies) -> None:
    places = []
    while (at := store.put(PICTURE)) is not None:
        places.append(at)
    assert store.put(bytes(MIB - 8)) is None
    for at in places:
        store.drop(at)
    other = store.put(bytes(MIB - 8))
    assert other is not None and reader.read(other.text()) == bytes(MIB - 8)
    assert reader.read(places[1].text()) is None


def test_memory_that_is_full_is_no_error(root: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from shared import bodies\n"
        "from producer_api.body_store import BodyStore\n"
        "bodies.ROOT = Path(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "store = BodyStore('fe-9', 1 << 22)\n"
        "print([store.put(bytes(150_000)) is not None for _ in range(3)], store.used_bytes > 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)], cwd=ROOT, env=clean_environment(), capture_output=True, text=True,
        timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[True, False, False] True"
    assert done.stderr.count("go through the queue") == 1


def test_what_a_killed_front_end_left_behind_goes_and_what_a_living_one_has_stays(
    root: Path, store: BodyStore, reader: SharedBodies
) -> None:
    left = root / f"headrace-{os.geteuid()}" / "fe-0"
    left.write_bytes(PICTURE)
    at = store.put(PICTURE)
    other = BodyStore("fe-2", MIB)
    assert not left.exists()
    assert at is not None and reader.read(at.text()) == PICTURE
    other.close()
    assert sorted(one.name for one in left.parent.iterdir()) == ["fe-1"]


def test_a_closed_store_leaves_nothing_and_its_reader_lets_go_of_it(
    root: Path, store: BodyStore, reader: SharedBodies
) -> None:
    at = store.put(PICTURE)
    assert at is not None and reader.read(at.text()) == PICTURE
    store.close()
    assert store.put(PICTURE) is None
    reader.identity()
    assert reader.read(at.text()) is None


def test_a_folder_that_others_can_read_is_not_used(root: Path) -> None:
    folder = root / f"headrace-{os.geteuid()}"
    folder.mkdir()
    folder.chmod(0o755)
    assert bodies.open_folder() is None
    assert BodyStore("fe-1", MIB).identity == SharedBodies().identity() == ""


def test_a_link_in_place_of_the_folder_is_not_used(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (root / f"headrace-{os.geteuid()}").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    assert bodies.open_folder() is None


def test_two_folders_have_two_names(root: Path, monkeypatch: pytest.MonkeyPatch, store: BodyStore) -> None:
    other = root / "container"
    other.mkdir()
    monkeypatch.setattr(bodies, "ROOT", other)
    assert SharedBodies().identity() not in ("", store.identity)
    monkeypatch.setattr(bodies, "ROOT", other / "missing")
    assert SharedBodies().identity() == ""


def test_switched_off_neither_side_says_or_keeps_anything() -> None:
    assert SharedBodies(is_on=False).identity() == BodyStore("fe-1", 0).identity == ""


def test_the_file_is_nobody_elses_and_locked(root: Path, store: BodyStore) -> None:
    path = root / f"headrace-{os.geteuid()}" / "fe-1"
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@given(some.lists(some.integers(1, MOST_BYTES + 8) | some.none(), max_size=60))
def test_slots_in_use_never_overlap_and_keep_within_the_file(steps: list[int | None]) -> None:
    slots, used = Slots(4 * MIB), dict[int, int]()
    for size in steps:
        if size is None and used:
            offset, given = used.popitem()
            slots.give_back(offset, given)
        elif size is not None:
            at = slots.take(size)
            if at is None and slots.begin_anew():
                at = slots.take(size)
            if at is not None:
                used[at] = size
        ends = sorted((offset, offset + slot_bytes(size)) for offset, size in used.items())
        assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))
        assert not ends or ends[-1][1] <= 4 * MIB
        assert slots.used_bytes == sum(end - begin for begin, end in ends)


@given(some.integers(1, 1 << 26))
def test_a_slot_holds_what_it_is_for_and_wastes_little(size: int) -> None:
    assert size <= slot_bytes(size) <= max(4096 * -(-size // 4096), size * 1.25)
