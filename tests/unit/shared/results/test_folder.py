"""The result store in a folder: what others see of a write, limits of time and room, names, and what breaks it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.results import account
from shared.results.folder import LEFT_BEHIND_S, FolderStore
from shared.results.store import Found, Store, StoreError, StoreFull, StoreMissing, StoreTooLarge, delete_below

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    opened = FolderStore(root, MIB)
    yield opened
    opened.close()


def keys(store: Store, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


def test_what_is_put_is_got_whole(store: Store) -> None:
    everything = bytes(range(256)) * 3
    store.put("batches/b-1/in/000001", everything, 60)
    store.put("batches/b-1/in/000002", b"", 60)
    assert store.get("batches/b-1/in/000001", len(everything)) == everything
    assert store.get("batches/b-1/in/000002", 0) == b""


def test_another_process_sees_it_and_a_new_object_replaces_the_old(store: Store, root: Path) -> None:
    store.put("a/b", b"first", 60)
    other = FolderStore(root, MIB)
    assert other.get("a/b", 100) == b"first"
    other.put("a/b", b"second", 60)
    assert store.get("a/b", 100) == b"second"
    other.close()


def test_the_size_is_checked_before_anything_is_read(store: Store) -> None:
    store.put("a", b"12345", 60)
    with pytest.raises(StoreTooLarge, match="a has 5 bytes, and at most 4 are read"):
        store.get("a", 4)


def test_what_was_never_put_or_is_deleted_is_missing(store: Store) -> None:
    store.put("a/b/c", b"x", 60)
    assert store.delete("a/b/c")
    assert not store.delete("a/b/c")
    for key in ("a/b/c", "a/b", "z", "a/b/c/d"):
        with pytest.raises(StoreMissing):
            store.get(key, 10)


def test_a_deleted_object_leaves_no_folder(store: Store, root: Path) -> None:
    store.put("a/b/c", b"x", 60)
    store.put("a/d", b"x", 60)
    store.delete("a/b/c")
    assert sorted(path.name for path in (root / "a").iterdir()) == ["d"]
    store.delete("a/d")
    assert not (root / "a").exists()


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "/etc/passwd",
        "a//b",
        "a/",
        ".count",
        "a/.hidden",
        "a\0b",
        "ä",
        "a b",
        "a\n",
        "a" * 129,
        "a/b/c/d/e/f/g/h/i",
    ],
)
def test_a_key_that_could_lead_elsewhere_is_none(store: Store, root: Path, key: str) -> None:
    for call in (lambda: store.put(key, b"x", 60), lambda: store.get(key, 9), lambda: store.delete(key)):
        with pytest.raises(ValueError, match="A key of the store has"):
            call()
    with pytest.raises(ValueError, match="A key of the store has"):
        delete_below(store, key)
    assert list(root.iterdir()) == []


def test_no_symbolic_link_is_followed(store: Store, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store.put("in/x", b"x", 60)
    (root / "out").symlink_to(outside)
    (root / "in" / "secret").symlink_to(outside / "secret")
    for key in ("out/secret", "in/secret"):
        with pytest.raises(StoreMissing):
            store.get(key, 100)
    with pytest.raises(StoreError):
        store.put("out/new", b"x", 60)
    assert not store.delete("out/secret")
    assert keys(store) == ["in/x"]
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_list_goes_through_the_keys_below_a_prefix_in_order(store: Store) -> None:
    for key in ("b/2", "b/10", "b/1/x", "c"):
        store.put(key, key.encode(), 60)
    assert keys(store) == ["b/1/x", "b/10", "b/2", "c"]
    assert keys(store, "b") == ["b/1/x", "b/10", "b/2"]
    assert keys(store, "b/1") == ["b/1/x"]
    assert keys(store, "nothing") == keys(store, "c") == []
    (found,) = store.list("b/1")
    assert found == Found("b/1/x", 5, found.expires_s)
    assert found.expires_s is not None
    assert time.time() < found.expires_s <= time.time() + 60


def test_delete_below_leaves_the_others(store: Store) -> None:
    for key in ("b/one/x", "b/one/y", "b/ones", "c"):
        store.put(key, b"x", 60)
    assert delete_below(store, "b/one") == 2
    assert keys(store) == ["b/ones", "c"]


def test_nobody_reads_what_is_over_and_a_sweep_frees_it(store: Store, root: Path) -> None:
    store.put("short", b"x" * 1000, 0)
    store.put("long", b"y" * 10, 3600)
    with pytest.raises(StoreMissing):
        store.get("short", 1000)
    assert store.sweep(time.time()) == 1
    assert keys(store) == ["long"]
    assert store.sweep(time.time() + 3601) == 1
    assert keys(store) == []


def test_an_object_can_be_kept_for_longer_and_never_for_shorter(store: Store) -> None:
    store.put("a", b"x", 60)
    store.keep("a", 3600)
    store.keep("a", 1)
    assert store.sweep(time.time() + 3590) == 0
    store.put("b", b"x", 0)
    for key in ("b", "c"):
        with pytest.raises(StoreMissing):
            store.keep(key, 3600)


def test_all_processes_share_one_quota(store: Store, root: Path) -> None:
    other = FolderStore(root, MIB)
    store.put("a", bytes(700_000), 60)
    with pytest.raises(StoreFull, match=r"full: HEADRACE_RESULTS_MB allows 1 MiB"):
        other.put("b", bytes(700_000), 60)
    other.put("a", bytes(800_000), 60)  # takes the place of the first
    other.put("b", bytes(200_000), 60)
    store.delete("a")
    other.put("c", bytes(700_000), 60)
    assert keys(other) == ["b", "c"]
    other.close()


def test_many_at_once_never_go_beyond_the_quota(store: Store) -> None:
    stored = []

    def fill(name: str) -> None:
        for number in range(20):
            try:
                store.put(f"{name}/{number}", bytes(50_000), 60)
            except StoreFull:
                continue
            stored.append(name)

    threads = [threading.Thread(target=fill, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == MIB // 50_000
    assert len(keys(store)) == len(stored)


def test_a_sweep_corrects_a_wrong_count_and_removes_what_was_never_completed(store: Store, root: Path) -> None:
    store.put("a", bytes(1000), 60)
    (root / ".count").write_bytes(account._COUNT.pack(MIB, 5))
    (root / ".partial" / "left").write_bytes(b"half")
    with pytest.raises(StoreFull):
        store.put("b", b"x", 60)
    store.sweep(time.time())
    store.put("b", b"x", 60)
    assert (root / ".partial" / "left").exists()
    store.sweep(time.time() + LEFT_BEHIND_S + 10)
    assert list((root / ".partial").iterdir()) == []


def test_a_folder_that_is_removed_is_made_again(store: Store, root: Path) -> None:
    store.put("a", b"x", 60)
    for path in (root / "a", root / ".count"):
        path.unlink()
    (root / ".partial").rmdir()
    root.rmdir()
    with pytest.raises(StoreMissing):
        store.get("a", 10)
    store.put("b", b"x", 60)
    assert keys(store) == ["b"]


def test_a_file_in_place_of_the_folder_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be used: File exists\."):
        FolderStore(tmp_path / "file", MIB)


def test_a_file_in_place_of_an_inner_folder_is_an_error(store: Store) -> None:
    store.put("a", b"x", 60)
    with pytest.raises(StoreError):
        store.put("a/b", b"x", 60)
    assert keys(store) == ["a"]
    store.put("c/d", b"x", 60)
    with pytest.raises(StoreError):
        store.put("c", b"x", 60)
    assert keys(store) == ["a", "c/d"]


needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs the right to mount",
)

IN_A_SMALL_DISK = """
import subprocess, sys
from pathlib import Path
from shared.results.folder import FolderStore
from shared.results.store import StoreError, StoreFull
root = Path(sys.argv[1])
mount = lambda *options: subprocess.run(["mount", *options, str(root)], check=True)
mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")
store = FolderStore(root, 1 << 30)
store.put("a", bytes(600_000), 60)
try:
    store.put("b", bytes(600_000), 60)
except StoreFull as error:
    print("full:", str(error).rpartition(": ")[2])
print([found.key for found in store.list("")], len(list((root / ".partial").iterdir())))
store.close()
mount("-o", "remount,ro")
store = FolderStore(root, 1 << 30)
try:
    store.put("a", b"x", 60)
except StoreFull:
    raise
except StoreError as error:
    print("read-only:", str(error).rpartition(": ")[2])
print(len(store.get("a", 600_000)))
"""


@needs_mounts
def test_a_full_disk_and_a_read_only_one(root: Path) -> None:
    root.mkdir()
    ran = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", IN_A_SMALL_DISK, str(root)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.stdout.splitlines() == [
        "full: No space left on device.",
        "['a'] 0",
        "read-only: Read-only file system.",
        "600000",
    ]


def test_a_process_that_keeps_the_lock_stops_nobody_for_long(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", b"x", 60)
    monkeypatch.setattr(account, "LONGEST_WAIT_S", 0.05)
    with open(root / ".count") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another process holds its lock"):
            store.put("b", b"x", 60)
        assert store.get("a", 10) == b"x"
    assert list((root / ".partial").iterdir()) == []


def test_objects_are_for_their_owner_alone_unless_the_folder_is_open_to_a_group(tmp_path: Path) -> None:
    for name, mode, wanted in (("own", 0o755, 0o600), ("group", 0o770, 0o660)):
        root = tmp_path / name
        root.mkdir()
        root.chmod(mode)
        store = FolderStore(root, MIB)
        store.put("a/b", b"x", 60)
        store.close()
        assert (root / "a" / "b").stat().st_mode & 0o777 == wanted, name
