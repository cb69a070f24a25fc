"""Bodies in shared memory: what one side keeps the other side reads, whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from consumer.queue import shared_bodies
from consumer.queue.shared_bodies import SharedBodies
from producer_api.queue import body_store
from producer_api.queue.body_slots import Slots, slot_bytes
from producer_api.queue.body_store import FIRST_PAUSE_S, LONGEST_PAUSE_S, BodyStore
from shared.wire import bodies
from shared.wire.bodies import LEAST_BYTES, MOST_BYTES, STAMP_BYTES, Owner
from tests.children import ROOT, clean_environment

PICTURE = bytes(range(256)) * 588
MIB = 1024 * 1024
OWNER, OTHER = Owner("cat", "default", "a"), Owner("cat", "default", "b")
GOLDEN = ROOT / "tests" / "golden" / "messages.json"
ZEROS = "0" * 2 * STAMP_BYTES


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bodies, "ROOT", tmp_path)
    return tmp_path


class Clock:
    """The store's, which goes on when the test says so."""

    now_s = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(body_store, "monotonic", lambda: made.now_s)
    return made


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
    places = [store.put(PICTURE[:size], OWNER) for size in (LEAST_BYTES, 70_000, len(PICTURE))]
    assert [len(reader.read(at.text(), OWNER) or b"") for at in places if at] == [LEAST_BYTES, 70_000, len(PICTURE)]
    assert places[2] is not None and reader.read(places[2].text(), OWNER) == PICTURE


def test_stamps_are_made_as_the_protocol_says() -> None:
    """Front ends and consumers may be of two versions."""
    (at,) = [one["message"]["at"] for one in json.loads(GOLDEN.read_text())["requests"] if "at" in one["message"]]
    found = bodies.parse(at)
    text, key = f"cat default shared-1 {found.offset} {found.size_bytes}" if found else "", bytes(range(32))
    made = hashlib.blake2b(text.encode(), key=key, digest_size=16).digest()
    assert found is not None and found.stamp == made and found.text() == at
    assert bodies.stamp_of(key, Owner("cat", "default", "shared-1"), found.offset, found.size_bytes) == made


def test_a_body_that_gave_way_to_another_is_not_read_as_that(store: BodyStore, reader: SharedBodies) -> None:
    first = store.put(PICTURE, OWNER)
    assert first is not None
    store.drop(first)
    second = store.put(PICTURE[::-1], OTHER)
    assert second is not None and second.offset == first.offset
    assert reader.read(first.text(), OWNER) is None
    assert reader.read(second.text(), OTHER) == PICTURE[::-1]


def test_nor_while_the_other_is_being_written(root: Path, store: BodyStore, reader: SharedBodies) -> None:
    at = store.put(PICTURE, OWNER)
    assert at is not None
    with (root / f"headrace-{os.geteuid()}" / "fe-1-1").open("r+b") as file:  # its stamp is written, its body is not
        file.seek(at.offset)
        file.write(bytes(STAMP_BYTES))
    assert reader.read(at.text(), OWNER) is None


def test_a_file_that_was_cut_is_not_read_beyond_its_end(root: Path, store: BodyStore, reader: SharedBodies) -> None:
    at = store.put(PICTURE, OWNER)
    assert at is not None
    os.truncate(root / f"headrace-{os.geteuid()}" / "fe-1-1", 1000)
    assert reader.read(at.text(), OWNER) is None


@pytest.mark.parametrize(
    "text",
    ["", "x", f"../../etc/passwd:0:10:{ZEROS}", "fe-1-1:0:10", "fe-1-1:0:10:1", f"fe-1-1:-1:10:{ZEROS}",
     f"fe-1-1:0:99999999999:{ZEROS}", f"fe-2-1:0:100:{ZEROS}", f"fe-1-1:{'9' * 15}:100:{ZEROS}", f"fe-1-1:0:0:{ZEROS}",
     f"fe-1-1:0:100:{ZEROS}\n", f"\udcff:0:1:{ZEROS}"],
)  # fmt: skip
def test_what_means_no_body_is_none(store: BodyStore, reader: SharedBodies, text: str) -> None:
    store.put(PICTURE, OWNER)
    assert reader.read(text, OWNER) is None


def test_a_link_or_a_pipe_in_the_folder_is_not_followed(root: Path, store: BodyStore, reader: SharedBodies) -> None:
    at = store.put(PICTURE, OWNER)
    folder = root / f"headrace-{os.geteuid()}"
    (folder / "link").symlink_to(folder / "fe-1-1")
    os.mkfifo(folder / "pipe")
    assert at is not None
    assert reader.read(at._replace(file="link").text(), OWNER) is None
    assert reader.read(at._replace(file="pipe").text(), OWNER) is None


@pytest.mark.parametrize(
    "other",
    [Owner("dog", "default", "a"), Owner("cat", "gold", "a"), Owner("cat", "default", "b"), Owner("cat", "", "a")],
    ids=str,
)
def test_a_body_is_its_own_requests_and_nobody_elses(store: BodyStore, reader: SharedBodies, other: Owner) -> None:
    at = store.put(PICTURE, OWNER)
    assert at is not None
    assert reader.read(at.text(), other) is None
    assert reader.read(at.text(), OWNER) == PICTURE


def test_a_reference_is_to_all_of_a_body_and_to_nothing_beside_it(store: BodyStore, reader: SharedBodies) -> None:
    """A body may hold whatever its sender likes, what looks like another body with its stamp, too."""
    at = store.put(PICTURE, OWNER)
    assert at is not None
    inner = at._replace(offset=at.offset + STAMP_BYTES, stamp=PICTURE[:STAMP_BYTES], size_bytes=1000)
    for forged in (at._replace(size_bytes=1000), at._replace(size_bytes=MOST_BYTES), inner, at._replace(offset=0)):
        assert reader.read(forged.text(), OWNER) is None


def test_a_key_of_somebody_elses_making_opens_no_other_file(root: Path, store: BodyStore, reader: SharedBodies) -> None:
    at, other = store.put(PICTURE, OWNER), BodyStore("fe-2", MIB)
    assert at is not None and other.put(PICTURE[::-1], OTHER) is not None
    assert reader.read(at._replace(file="fe-2-1").text(), OWNER) is None
    other.close()


def test_more_front_ends_than_files_are_kept_open(
    monkeypatch: pytest.MonkeyPatch, store: BodyStore, reader: SharedBodies
) -> None:
    monkeypatch.setattr(shared_bodies, "MOST_FILES", 2)
    stores = [store, *(BodyStore(f"fe-{index}", MIB) for index in (2, 3))]
    for _ in range(2):
        for one in stores:
            at = one.put(PICTURE, OWNER)
            assert at is not None and reader.read(at.text(), OWNER) == PICTURE
    for one in stores[1:]:
        one.close()


@pytest.mark.parametrize("harm", ["removed", "removed with its folder", "emptied"])
def test_a_file_that_is_no_more_what_it_was_is_made_anew(
    root: Path, clock: Clock, store: BodyStore, reader: SharedBodies, harm: str
) -> None:
    folder = root / f"headrace-{os.geteuid()}"
    before = store.put(PICTURE, OWNER)
    assert before is not None and reader.read(before.text(), OWNER) == PICTURE
    if harm == "emptied":
        os.truncate(folder / "fe-1-1", 0)
    else:
        (folder / "fe-1-1").unlink()
    if harm == "removed with its folder":
        folder.rmdir()
    store.was_not_read()
    clock.now_s += FIRST_PAUSE_S
    assert reader.identity() == store.identity != ""
    assert reader.read(before.text(), OWNER) is None
    after = store.put(PICTURE, OTHER)
    assert after is not None and reader.read(after.text(), OTHER) == PICTURE
    store.drop(before)
    store.drop(after)
    assert store.used_bytes == 0
    store.close()
    assert list(folder.iterdir()) == []


def test_what_is_as_it_was_is_kept(root: Path, store: BodyStore, reader: SharedBodies) -> None:
    at = store.put(PICTURE, OWNER)
    store.was_not_read()
    assert at is not None and reader.read(at.text(), OWNER) == PICTURE


def test_while_bodies_are_not_read_one_is_tried_now_and_then(clock: Clock, store: BodyStore) -> None:
    """Two machines may seem one: copies of a virtual machine that ran. Each body would be sent twice for ever."""
    tried_s: list[float] = []
    for _ in range(600):
        at = store.put(PICTURE, OWNER)
        if at is not None:
            tried_s.append(clock.now_s)
            for _ in range(3):  # those under way at the time, too
                store.was_not_read()
            store.drop(at)
        clock.now_s += 0.5
    pauses_s = [after - before for before, after in pairwise(tried_s)]
    assert pauses_s == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    clock.now_s += LONGEST_PAUSE_S
    store.was_read()
    store.was_not_read()
    clock.now_s += FIRST_PAUSE_S
    assert store.put(PICTURE, OWNER) is not None


@pytest.mark.parametrize("removes", [True, False])
def test_a_front_end_makes_its_file_while_another_looks_for_what_was_left_behind(
    root: Path, monkeypatch: pytest.MonkeyPatch, removes: bool
) -> None:
    """The other finds the file that was just made, before it is locked."""
    opened, folder = os.open, root / f"headrace-{os.geteuid()}"
    locked: list[int] = []

    def open_and_lose(path: Path, flags: int, mode: int = 0o777) -> int:
        file = opened(path, flags, mode)
        if not locked and flags & os.O_EXCL:
            locked.append(opened(path, os.O_RDONLY))
            fcntl.flock(locked[0], fcntl.LOCK_EX)
            if removes:
                path.unlink()
                os.close(locked[0])
        return file

    monkeypatch.setattr(os, "open", open_and_lose)
    made, reader = BodyStore("fe-1", MIB), SharedBodies()
    at = made.put(PICTURE, OWNER)
    assert reader.identity() and at is not None and reader.read(at.text(), OWNER) == PICTURE
    made.close()
    reader.close()
    if not removes:
        os.close(locked[0])
    assert len(list(folder.iterdir())) == 1 - removes


def test_half_of_what_is_free_is_left_to_others(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from shared.wire import bodies\n"
        "from producer_api.queue.body_store import BodyStore\n"
        "bodies.ROOT = Path(sys.argv[1])\n"
        "store, owner = BodyStore('fe-9', 64 << 20), bodies.Owner('cat', 'default', 'a')\n"
        "found = [store.put(bytes(1 << 19), owner) for _ in range(100)]\n"
        "left = os.statvfs(bodies.ROOT)\n"
        "print(sum(at is not None for at in found), left.f_bavail * 8 // left.f_blocks)\n"
        "store.drop(found[0]); print(store.put(bytes(1 << 19), owner) is not None)\n"
    )
    script = 'mount -t tmpfs -o size=8m tmpfs "$2" && exec "$0" -c "$1" "$2"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, sys.executable, code, str(tmp_path)],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    if done.returncode and "unshare" in done.stderr + "mount" in done.stderr:
        pytest.skip("this system lets nobody mount anything")
    assert done.stdout.split() == ["7", "4", "True"], done.stderr


@pytest.mark.parametrize("size", [0, LEAST_BYTES - 1, MOST_BYTES + 1])
def test_small_and_large_bodies_go_through_the_queue(store: BodyStore, size: int) -> None:
    assert store.put(bytes(size), OWNER) is None
    assert store.used_bytes == 0


def test_without_room_there_is_none_until_something_is_given_back(store: BodyStore, reader: SharedBodies) -> None:
    places = []
    while (at := store.put(PICTURE, OWNER)) is not None:
        places.append(at)
    assert 20 <= len(places) <= 4 * MIB // len(PICTURE)
    store.drop(places.pop())
    again = store.put(PICTURE, OWNER)
    assert again is not None and reader.read(again.text(), OWNER) == PICTURE


def test_other_sizes_find_room_once_nothing_is_left(store: BodyStore, reader: SharedBodies) -> None:
    places = []
    while (at := store.put(PICTURE, OWNER)) is not None:
        places.append(at)
    assert store.put(bytes(MIB - STAMP_BYTES), OWNER) is None
    for at in places:
        store.drop(at)
    other = store.put(bytes(MIB - STAMP_BYTES), OWNER)
    assert other is not None and reader.read(other.text(), OWNER) == bytes(MIB - STAMP_BYTES)
    assert reader.read(places[1].text(), OWNER) is None


def test_memory_that_is_full_is_no_error(root: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from shared.wire import bodies\n"
        "from producer_api.queue.body_store import BodyStore\n"
        "bodies.ROOT = Path(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "store = BodyStore('fe-9', 1 << 22)\n"
        "owner = bodies.Owner('cat', 'default', 'a')\n"
        "print([store.put(bytes(150_000), owner) is not None for _ in range(3)], store.used_bytes > 0)\n"
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
    at = store.put(PICTURE, OWNER)
    other = BodyStore("fe-2", MIB)
    assert not left.exists()
    assert at is not None and reader.read(at.text(), OWNER) == PICTURE
    other.close()
    assert sorted(one.name for one in left.parent.iterdir()) == ["fe-1-1"]


def test_a_closed_store_leaves_nothing_and_its_reader_lets_go_of_it(
    root: Path, store: BodyStore, reader: SharedBodies
) -> None:
    at = store.put(PICTURE, OWNER)
    assert at is not None and reader.read(at.text(), OWNER) == PICTURE
    store.close()
    assert store.put(PICTURE, OWNER) is None
    reader.identity()
    assert reader.read(at.text(), OWNER) is None


def test_a_folder_that_others_can_read_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "memory"  # nobody else in this process can have made the folder there
    folder = memory / f"headrace-{os.geteuid()}"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    monkeypatch.setattr(bodies, "ROOT", memory)
    assert bodies.open_folder() is None
    assert BodyStore("fe-1", MIB).identity == SharedBodies().identity() == ""


def test_a_link_in_place_of_the_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, elsewhere = tmp_path / "memory", tmp_path / "elsewhere"
    memory.mkdir()
    elsewhere.mkdir(mode=0o700)
    (memory / f"headrace-{os.geteuid()}").symlink_to(elsewhere)
    monkeypatch.setattr(bodies, "ROOT", memory)
    assert bodies.open_folder() is None


def test_two_folders_have_two_names(root: Path, monkeypatch: pytest.MonkeyPatch, store: BodyStore) -> None:
    other = root / "container"
    other.mkdir()
    monkeypatch.setattr(bodies, "ROOT", other)
    assert SharedBodies().identity() not in ("", store.identity)
    monkeypatch.setattr(bodies, "ROOT", other / "missing")
    assert SharedBodies().identity() == ""


def test_versions_that_lay_files_out_differently_share_none(monkeypatch: pytest.MonkeyPatch, store: BodyStore) -> None:
    monkeypatch.setattr(bodies, "LAYOUT", bodies.LAYOUT + 1)
    assert SharedBodies().identity() not in ("", store.identity)


def test_switched_off_neither_side_says_or_keeps_anything() -> None:
    assert SharedBodies(is_on=False).identity() == BodyStore("fe-1", 0).identity == ""


def test_the_file_is_nobody_elses_and_locked(root: Path, store: BodyStore) -> None:
    path = root / f"headrace-{os.geteuid()}" / "fe-1-1"
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@given(some.lists(some.integers(1, MOST_BYTES + STAMP_BYTES) | some.none(), max_size=60))
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
