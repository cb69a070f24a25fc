"""The data folder is the user's alone, also when an older version has made it."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.stack import private_folder
from shared.redis.client import connect
from shared.redis.embedded import free_port
from tests.unit.headrace.stacks import Running

RUN_UP = str(Path(__file__).with_name("run_up.py"))


@pytest.fixture(autouse=True)
def wide_umask() -> Iterator[None]:
    """Whatever is made without care is open to everybody."""
    old = os.umask(0)
    yield
    os.umask(old)


def _mode(place: Path) -> int:
    return stat.S_IMODE(place.lstat().st_mode)


def _modes(folder: Path) -> dict[str, int]:
    places = [folder, *sorted(folder.rglob("*"))]
    return {str(place.relative_to(folder.parent)): _mode(place) for place in places}


def _old_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "redis" / "appendonlydir").mkdir(parents=True, mode=0o755)
    (folder / "redis" / "appendonlydir" / "file.aof").write_text("requests")
    (folder / "up.lock").write_text("1\n")
    return folder


def test_what_others_could_read_is_closed_and_told_once(tmp_path: Path) -> None:
    folder = _old_folder(tmp_path)
    assert private_folder.tighten(folder) == f"{folder} was open to other users; from now on it is yours alone."
    assert {name: mode & 0o077 for name, mode in _modes(folder).items() if mode & 0o077} == {}
    assert _mode(folder / "redis" / "appendonlydir" / "file.aof") == 0o600
    assert _mode(folder / "redis") == 0o700
    assert private_folder.tighten(folder) is None


def test_a_folder_with_other_things_in_it_stays_as_it_is_and_so_do_those(tmp_path: Path) -> None:
    folder = _old_folder(tmp_path)
    (folder / "theirs").write_text("x")
    folder.chmod(0o755)
    private_folder.tighten(folder)
    assert (_mode(folder), _mode(folder / "theirs")) == (0o755, 0o666)
    assert (_mode(folder / "redis"), _mode(folder / "up.lock")) == (0o700, 0o600)


def test_links_are_not_followed(tmp_path: Path) -> None:
    folder = _old_folder(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    (folder / "notes").symlink_to(elsewhere)
    (folder / "redis" / "link").symlink_to(elsewhere)
    private_folder.tighten(folder)
    assert _mode(elsewhere) == 0o755


@pytest.mark.parametrize("exists", [False, True])
def test_everything_that_a_stack_keeps_is_closed_to_others(tmp_path: Path, exists: bool) -> None:
    folder = _old_folder(tmp_path) if exists else tmp_path / "data"
    if exists:
        (folder / "redis" / "appendonlydir" / "file.aof").unlink()
    (tmp_path / "models.toml").write_text('[models.echo]\nfamily = "echo"\n')
    port = free_port()
    environment = {
        "HEADRACE_DATA_DIR": str(folder),
        "HEADRACE_MODELS_FILE": str(tmp_path / "models.toml"),
        "HEADRACE_MODELS": "echo",
        "HEADRACE_PORT": "0",
        "HEADRACE_METRICS_PORT": "0",
        "HEADRACE_REDIS_PORT": str(port),
        "HEADRACE_APPENDONLY": "always",
    }
    with Running([sys.executable, RUN_UP], environment) as stack:
        stack.until("Ctrl-C stops everything")
        with connect(f"redis://127.0.0.1:{port}/0") as client:
            client.set("request", "secret")
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
    modes = _modes(folder)
    assert any(name.endswith(".aof") for name in modes)
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    assert ("was open to other users" in stack.output) == exists
