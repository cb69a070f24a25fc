"""`headrace keys new --file`: a key gets into the file in one step, or nothing changes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.operate import key_file
from shared.api_keys import digest_of, new_key, parse
from tests.children import ROOT
from tests.unit.headrace.operators import Said, headrace


def keys_new(*arguments: str) -> Said:
    return headrace("redis://127.0.0.1:1/0", "keys", "new", *arguments)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_a_key_is_printed_and_its_hash_is_in_the_file(file: Path) -> None:
    said = keys_new("alice", "--file", str(file))
    assert said.code == 0
    [alice] = parse(file.read_text())
    assert (alice.name, alice.digest) == ("alice", digest_of(said.out.strip().encode()))
    assert said.out.strip() not in file.read_text() + said.err
    assert mode_of(file) == key_file.NEW_FILE_MODE
    assert os.listdir(file.parent) == ["keys.toml"]


def test_what_is_in_the_file_stays_as_it_is(file: Path) -> None:
    before = f'# ours\r\n[keys.bob]  # a friend\nsha256 = "{"0" * 64}"\nlane = "gold"'  # and no end of the line
    file.write_bytes(before.encode())
    file.chmod(0o640)
    made = keys_new("alice", "--file", str(file), "--console", "read", "--json").json
    assert file.read_bytes().startswith(before.encode())
    assert [key.name for key in parse(file.read_text())] == ["bob", "alice"]
    assert mode_of(file) == 0o640
    assert [key.console for key in parse(file.read_text())] == [None, "read"]
    assert (made["name"], made["file"], made["sha256"]) == ("alice", str(file), digest_of(made["key"].encode()).hex())


def test_a_file_of_comments_and_an_empty_one_take_a_first_key(file: Path) -> None:
    for before in ("", "# keys of our clients\n"):
        file.write_text(before)
        key_file.add(file, "alice", new_key())
        assert [key.name for key in parse(file.read_text())] == ["alice"]


@pytest.mark.parametrize(
    ("name", "before", "why"),
    [
        ("bob smith", b"", "The name must be 1 to 64"),
        ("bob", b"not TOML [", "so nothing was added. It is not TOML (line 1)."),
        ("bob", b"headrace: The name must be 1 to 64 letters\n", "so nothing was added. It is not TOML (line 1)."),
        ("bob", b"[elsewhere]\n", "so nothing was added. It must have tables [keys.NAME]"),
        ("bob", b"[keys.alice]\n", "so nothing was added. keys.alice.sha256 must be"),
        ("bob", b"# \xff\n", "so nothing was added. It is not UTF-8."),
        ("bob", f'[keys.bob]\nsha256 = "{"0" * 64}"\n'.encode(), "has a key for bob already"),
    ],
)
def test_what_cannot_be_used_changes_nothing(file: Path, name: str, before: bytes, why: str) -> None:
    file.write_bytes(before)
    said = keys_new(name, "--file", str(file))
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert why in said.err
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == ["keys.toml"]


def test_without_a_name_the_file_stays_as_it_is(file: Path) -> None:
    """Its usage, which the shell's ``2>>`` would have appended to the file."""
    key_file.add(file, "alice", new_key())
    before = file.read_bytes()
    assert keys_new("--file", str(file)).code == 2
    assert file.read_bytes() == before


@pytest.mark.parametrize("path", ["missing/keys.toml", "file/keys.toml"])
def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    said = keys_new("alice", "--file", str(tmp_path / path))
    assert (said.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert f"{tmp_path / path} cannot be written" in said.err


def test_keys_that_are_added_at_once_are_all_there(file: Path) -> None:
    names = [f"client-{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: key_file.add(file, name, new_key()), names))
    assert sorted(key.name for key in parse(file.read_text())) == sorted(names)


def test_a_link_to_the_file_stays_one(tmp_path: Path, file: Path) -> None:
    link = tmp_path / "elsewhere" / "keys.toml"
    link.parent.mkdir()
    link.symlink_to(file)
    for name in ("alice", "bob"):
        key_file.add(link, name, new_key())
    assert link.is_symlink()
    assert [key.name for key in parse(file.read_text())] == ["alice", "bob"]


def test_who_masks_all_rights_still_makes_a_file_that_a_front_end_can_read(file: Path) -> None:
    add = f"key_file.add({str(file)!r}, 'alice', 'hr_x')"
    code = f"import os; os.umask(0o777); from headrace.operate import key_file; {add}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert mode_of(file) == key_file.NEW_FILE_MODE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_file_stays_whose_it_is(file: Path) -> None:
    key_file.add(file, "alice", new_key())
    os.chown(file, 12_345, 23_456)
    key_file.add(file, "bob", new_key())
    assert (file.stat().st_uid, file.stat().st_gid) == (12_345, 23_456)
