"""`keys list` and `keys revoke`."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.operate import key_file
from shared import api_keys
from tests.unit.headrace.operators import headrace

NOBODY = "redis://127.0.0.1:1/0"
DIGESTS = ["a" * 64, "b" * 64, "c" * 64]
TEXT = f"""# keys of the shop
[keys.alice]
sha256 = "{DIGESTS[0]}"
lane = "gold"

# bob is on the night shift
[keys."bob"]
sha256 = "{DIGESTS[1]}"
expires = 2035-01-31T00:00:00Z
console = "read"

[keys.carol]   # the last one
sha256 = "{DIGESTS[2]}"
max_in_flight = 3
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text(TEXT)
    file.chmod(0o640)
    return file


def test_list_shows_no_hash(path: Path) -> None:
    said = headrace(NOBODY, "keys", "list", HEADRACE_KEYS_FILE=str(path))
    assert [line.split() for line in said.out.splitlines()[1:]] == [
        ["alice", "gold", "-", "-", "-"],
        ["bob", "default", "-", "2035-01-31T00:00:00Z", "read"],
        ["carol", "default", "3", "-", "-"],
    ]
    listed = headrace(NOBODY, "keys", "list", "--file", str(path), "--json")
    assert [key["name"] for key in listed.json["keys"]] == ["alice", "bob", "carol"]
    assert not any(digest in said.out + listed.out for digest in DIGESTS)


@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_revoke_takes_out_one_and_leaves_the_others(path: Path, name: str) -> None:
    before = key_file.listed(path)
    said = headrace(NOBODY, "keys", "revoke", name, "--file", str(path))
    assert said.code == 0, said.err
    assert key_file.listed(path) == tuple(key for key in before if key.name != name)
    assert path.stat().st_mode & 0o777 == 0o640
    assert "# keys of the shop" in path.read_text()
    assert ("# bob is on the night shift" in path.read_text()) is True


def test_the_last_key_expires(path: Path) -> None:
    for name in ("alice", "bob"):
        assert headrace(NOBODY, "keys", "revoke", name, "--file", str(path)).code == 0
    said = headrace(NOBODY, "keys", "revoke", "carol", "--file", str(path))
    assert (said.code, "has expired" in said.out) == (0, True)
    [key] = key_file.listed(path)
    assert (key.name, key.expires_s, key.max_in_flight) == ("carol", 0.0, 3)


def test_a_name_that_has_no_key(path: Path) -> None:
    said = headrace(NOBODY, "keys", "revoke", "alise", "--file", str(path))
    assert (said.code, "Did you mean alice?" in said.err) == (2, True)
    assert path.read_text() == TEXT


def test_what_is_written_another_way_is_left_alone(path: Path) -> None:
    text = f'[keys]\nalice = {{sha256 = "{DIGESTS[0]}"}}\nbob = {{sha256 = "{DIGESTS[1]}"}}\n'
    path.write_text(text)
    said = headrace(NOBODY, "keys", "revoke", "alice", "--file", str(path))
    assert (said.code, "by hand" in said.err) == (2, True)
    assert path.read_text() == text


@pytest.mark.parametrize("command", [("list",), ("revoke", "alice")])
def test_files_that_are_none(tmp_path: Path, command: tuple[str, ...]) -> None:
    for place in (tmp_path / "none", Path("/dev/null")):
        said = headrace(NOBODY, "keys", *command, "--file", str(place))
        assert said.code == 2
        assert len(said.err.splitlines()) == 1
    assert headrace(NOBODY, "keys", *command).err == (
        "headrace: HEADRACE_KEYS_FILE is not set; name the file with --file.\n"
    )


def test_what_is_read_is_a_file_of_keys(path: Path) -> None:
    assert len(api_keys.parse(path.read_text())) == 3
