from __future__ import annotations

import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from headrace.stack import preflight
from shared.redis.embedded import free_port
from shared.settings import Settings, SettingsError


def test_a_port_in_use_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"HEADRACE_PORT: port {port} on 127.0.0.1 is in use"):
            preflight.check_port("HEADRACE_PORT", "127.0.0.1", port)


def test_a_free_port_passes() -> None:
    preflight.check_port("HEADRACE_PORT", "127.0.0.1", free_port())


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(SettingsError, match="cannot be opened"):
        preflight.check_port("HEADRACE_PORT", "192.0.2.1", 8000)


def test_a_run_of_free_ports_is_found() -> None:
    first = preflight.free_ports("HEADRACE_METRICS_PORT", "127.0.0.1", 3)
    for port in range(first, first + 3):
        preflight.check_port("HEADRACE_METRICS_PORT", "127.0.0.1", port)


def test_no_free_port_on_an_address_of_another_machine() -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_PORT: no port on 192\.0\.2\.1 can be opened"):
        preflight.free_ports("HEADRACE_PORT", "192.0.2.1", 1)


def test_a_redis_that_is_away_is_named_without_its_password() -> None:
    port = free_port()
    with pytest.raises(SettingsError, match=f"HEADRACE_REDIS_URL: no Redis at 127.0.0.1:{port}") as caught:
        preflight.check_redis(f"redis://:secret@127.0.0.1:{port}/0")
    assert "secret" not in str(caught.value)


def test_sentinels_that_are_away_are_named_without_passwords() -> None:
    place = f"127.0.0.1:{free_port()}"
    with pytest.raises(
        SettingsError, match=f"HEADRACE_REDIS_URL: .*No Sentinel at {place} says where 'queue' is"
    ) as caught:
        preflight.check_redis(f"redis+sentinel://:secret@{place}/queue?sentinel_password=secret")
    assert "secret" not in str(caught.value)


def test_a_unix_socket_that_is_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no Redis at"):
        preflight.check_redis(f"unix://{tmp_path}/redis.sock")


def test_a_redis_that_lets_us_in_passes(valkey_url: str) -> None:
    preflight.check_redis(valkey_url)


def test_a_redis_that_refuses_the_password_is_named_without_it(valkey_url: str) -> None:
    port = urlsplit(valkey_url).port
    with pytest.raises(SettingsError, match=f"127.0.0.1:{port} does not let us in") as caught:
        preflight.check_redis(f"redis://nobody:secret@127.0.0.1:{port}/0")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not let us in"),
        (b"-NOAUTH Authentication required.\r\n", "does not let us in .Authentication required"),
    ],
)
def test_a_server_that_is_no_redis_of_ours_is_named(answer: bytes, sentence: str) -> None:
    with _answering(answer) as port, pytest.raises(SettingsError, match=sentence):
        preflight.check_redis(f"redis://127.0.0.1:{port}/0")


def test_a_redis_that_is_too_old_is_named_with_its_version() -> None:
    info = b"$21\r\nredis_version:6.2.14\n\r\n"
    with _answering(b"+PONG\r\n", info) as port, pytest.raises(SettingsError, match=r"has version 6\.2\.14; .*Redis 7"):
        preflight.check_redis(f"redis://127.0.0.1:{port}/0")


def test_a_redis_that_still_loads_its_data_passes() -> None:
    with _answering(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        preflight.check_redis(f"redis://127.0.0.1:{port}/0")


@contextmanager
def _answering(ping: bytes, info: bytes = b"") -> Iterator[int]:
    """Listen on a port and answer the commands of a client with ``ping`` and ``info``."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while asked := self.request.recv(4096):
                # A client first says what it is, in commands of its own.
                self.request.sendall(b"+OK\r\n" * asked.count(b"SETNAME"))
                if b"PING" in asked:
                    self.request.sendall(ping)
                if b"$4\r\nINFO" in asked:
                    self.request.sendall(info)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_missing_model_is_named_with_those_there_are(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[models.echo]\nfamily = "echo"\n')
    settings = Settings.from_env({"HEADRACE_MODELS": "dog", "HEADRACE_MODELS_FILE": str(models)})
    with pytest.raises(SettingsError, match=r"'dog'.*echo"):
        preflight.chosen_models(settings)


def test_a_data_folder_serves_one_stack_at_a_time(tmp_path: Path) -> None:
    with (
        preflight.data_dir_lock(tmp_path),
        pytest.raises(SettingsError, match=f"in use by another `headrace up` .process {os.getpid()}"),
        preflight.data_dir_lock(tmp_path),
    ):
        pass
    with preflight.data_dir_lock(tmp_path):
        pass


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="HEADRACE_DATA_DIR"), preflight.data_dir_lock(tmp_path / "file" / "inside"):
        pass
