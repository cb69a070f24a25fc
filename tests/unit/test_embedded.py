from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.stack.up import _server_config
from shared.redis import embedded
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from shared.settings import Settings, SettingsError
from tests.embedded import EmbeddedServer, ServerNotReadyError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(ServerConfig(tmp_path / "redis", free_port(), maxmemory_mb=64)) as running:
        yield running


def _config(url: str, name: str) -> str:
    with connect(url) as client:
        value: str = client.config_get(name)[name]
        return value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("save", ""),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("maxmemory", str(64 * 1024 * 1024)),
        ("maxmemory-policy", "noeviction"),
        ("auto-aof-rewrite-min-size", str(512 * 1024 * 1024)),
        ("bind", "127.0.0.1"),
        ("maxmemory-clients", str(38 * 1024 * 1024)),
        ("min-string-size-avoid-copy-reply", "2147483647"),
        ("acllog-max-len", "0"),
        ("tcp-keepalive", "60"),
    ],
)
def test_the_server_runs_with_the_settings_of_a_queue(server: EmbeddedServer, name: str, value: str) -> None:
    assert _config(server.url, name) == value


@pytest.mark.parametrize(
    ("appendonly", "expected"), [("always", ("yes", "always")), ("everysec", ("yes", "everysec")), ("no", ("no", None))]
)
def test_appendonly_has_three_values(tmp_path: Path, appendonly: str, expected: tuple[str, str | None]) -> None:
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), appendonly)) as server:
        assert _config(server.url, "appendonly") == expected[0]
        if expected[1] is not None:
            assert _config(server.url, "appendfsync") == expected[1]


def test_what_was_written_survives_a_crash(tmp_path: Path) -> None:
    server = EmbeddedServer(ServerConfig(tmp_path, free_port(), "always"))
    server.start()
    with connect(server.url) as client:
        client.xadd("stream", {"m": b"1"})
    server.kill()
    with server, connect(server.url) as client:
        assert client.xlen("stream") == 1


def test_one_client_may_leave_only_so_much_unread(server: EmbeddedServer) -> None:
    limits = _config(server.url, "client-output-buffer-limit").split()
    assert limits[:4] == ["normal", str(640 << 20), str(64 << 20), "60"]
    assert "0" not in limits


def test_a_stack_of_ones_own_has_one_database(tmp_path: Path) -> None:
    config = _server_config(Settings(redis_port=0), tmp_path)
    with EmbeddedServer(config) as server:
        assert _config(server.url, "databases") == "1"


def _faults_of_pictures(folder: Path) -> int:
    """Return how many pages a server faults in for pictures that come and go, once it has seen some."""
    with EmbeddedServer(ServerConfig(folder, free_port(), "no")) as server, connect(server.url) as client:
        picture = bytes(150_528)

        def come_and_go() -> None:
            for _ in range(20):
                for _ in range(10):
                    client.xadd("stream", {"m": picture})
                client.xread({"stream": "0"})
                client.delete("stream")

        come_and_go()
        before = _faults(server.pid)
        come_and_go()
        return _faults(server.pid) - before


def _faults(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux counts the faults of a process")
def test_pictures_that_come_and_go_are_not_faulted_in_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = _faults_of_pictures(tmp_path / "kept")
    monkeypatch.setattr(embedded, "KEEPS_FREED_MEMORY", {})
    plain = _faults_of_pictures(tmp_path / "plain")
    if plain < 200:
        pytest.skip("this server has an allocator of its own, which keeps freed memory")
    assert kept * 10 < plain


def test_a_server_that_does_not_know_a_setting_is_not_told_of_it(tmp_path: Path) -> None:
    older = tmp_path / "redis-server"
    older.write_bytes(b"a program")
    assert not {*embedded.ALWAYS_COPIES} & {*embedded.server_argv(older, ServerConfig(tmp_path, 1))}
    assert {*embedded.ALWAYS_COPIES} < {*embedded.server_argv(embedded.find_server(), ServerConfig(tmp_path, 1))}


def test_a_stopped_server_no_longer_answers(tmp_path: Path) -> None:
    server = EmbeddedServer(ServerConfig(tmp_path, free_port(), "no"))
    with server:
        assert embedded.answers(server.config.port)
    assert not embedded.answers(server.config.port)
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


def test_a_server_that_cannot_start_says_why(tmp_path: Path, server: EmbeddedServer) -> None:
    taken = ServerConfig(tmp_path / "other", server.config.port)
    with pytest.raises(ServerNotReadyError, match="did not start"):
        # The port answers, since the first server has it; only the process says that this one ended.
        EmbeddedServer(taken).start()


def test_a_server_on_the_path_is_taken_when_the_package_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = tmp_path / "redis-server"
    stand_in.write_text("#!/bin/sh\n")
    stand_in.chmod(0o755)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_server() == stand_in
    stand_in.unlink()
    with pytest.raises(SettingsError, match="set HEADRACE_REDIS_URL"):
        embedded.find_server()


def test_a_folder_of_tests_ends_what_its_conftest_began(request: pytest.FixtureRequest) -> None:
    """For pytest it is a package; without that, a server of this scope would stay up to the end of the session."""
    folder = request.node.getparent(pytest.Package)
    assert isinstance(folder, pytest.Package)
    assert folder.path == Path(__file__).parent
