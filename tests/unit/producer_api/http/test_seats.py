"""Who may share a port with whom."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from producer_api.http import seats
from producer_api.http.seats import Seat
from shared.net.listener import can_share
from shared.redis.embedded import free_port
from shared.settings import Settings, SettingsError

pytestmark = pytest.mark.skipif(not can_share(), reason="this system deals no port out")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(port=free_port(), data_dir=str(tmp_path / "data"), front_ends=3)


@contextmanager
def taken(settings: Settings, number: int | None = None, listens: bool = True) -> Iterator[Seat]:
    """A seat, until the end of the block; then it is as if its process had ended."""
    seat = seats.take(settings, number)
    try:
        if listens:
            seat.listener.listen(8)
        yield seat
    finally:
        seat.listener.close()
        os.close(seat.lock)


def refused(settings: Settings, number: int | None = None) -> str:
    with pytest.raises(SettingsError) as error, taken(settings, number):
        pass
    return str(error.value)


def test_each_has_the_lowest_number_that_is_free(settings: Settings) -> None:
    with taken(settings) as first, taken(settings) as second:
        with taken(settings) as third:
            assert [seat.number for seat in (first, second, third)] == [0, 1, 2]
            assert refused(settings) == (
                f"Port {settings.port} of 127.0.0.1 is in use by 3 front ends, as many as HEADRACE_FRONT_ENDS lets "
                "share it."
            )
        with taken(settings) as again:
            assert again.number == 2
    with taken(settings) as anew:
        assert anew.number == 0


def test_a_number_that_was_asked_for_is_had_or_refused(settings: Settings) -> None:
    with taken(settings, 2) as third:
        assert third.number == 2
        assert "is in use by another front end with the number 2." in refused(settings, 2)
        with taken(settings, 0) as first:
            assert first.number == 0


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_strangers_port_is_refused_even_if_it_would_share(settings: Settings, host: str, shares: bool) -> None:
    with socket.socket() as stranger:
        if shares:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind((host, settings.port))
        stranger.listen()
        sentence = f"Port {settings.port} of 127.0.0.1 is in use; HEADRACE_PORT chooses another."
        assert refused(settings) == sentence
        assert refused(settings) == sentence  # the first one left no seat behind


def test_front_ends_of_another_folder_are_strangers(settings: Settings, tmp_path: Path) -> None:
    with taken(settings):
        other = replace(settings, data_dir=str(tmp_path / "other"))
        assert refused(other) == f"Port {settings.port} of 127.0.0.1 is in use; HEADRACE_PORT chooses another."


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("HEADRACE_REDIS_URL", {"redis_url": "redis://:Secret@elsewhere:6379/0"}),
        ("HEADRACE_KEYS_FILE", {"keys_file": "keys.toml"}),
        ("HEADRACE_TLS_CERT_FILE", {"tls_cert_file": "cert.pem"}),
        ("HEADRACE_HOST", {"host": "0.0.0.0"}),
    ],
)
def test_those_that_would_answer_otherwise_are_refused(settings: Settings, name: str, change: dict[str, str]) -> None:
    with taken(settings):
        text = refused(replace(settings, **change))  # type: ignore[arg-type]
        assert text.startswith(f"{name}: the front ends that share the port must have the same; another has ")
        assert "Secret" not in text
    with taken(replace(settings, **change)):  # type: ignore[arg-type]
        assert "Secret" not in (Path(settings.data_dir) / "front-ends" / f"{settings.port}.0").read_text()


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[1]", b'{"HEADRACE_HOST": 7}', b"x" * (1 << 20)])
def test_a_seat_that_cannot_be_read_is_a_seat_all_the_same(settings: Settings, text: bytes) -> None:
    with taken(settings):
        (Path(settings.data_dir) / "front-ends" / f"{settings.port}.0").write_bytes(text)
        with taken(settings) as second:
            assert second.number == 1


def test_the_files_are_the_users_alone(settings: Settings) -> None:
    with taken(settings):
        folder = Path(settings.data_dir) / "front-ends"
        assert [oct(path.stat().st_mode & 0o777) for path in (folder, *folder.iterdir())] == ["0o700", *["0o600"] * 2]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_data_folder_that_cannot_be_used_is_one_sentence(settings: Settings, kind: str) -> None:
    place = Path(settings.data_dir)
    if kind == "file":
        place.write_text("")
    else:
        (place / "front-ends" / f"{settings.port}.door").mkdir(parents=True)
    assert refused(settings).startswith("HEADRACE_DATA_DIR: front ends that share a port keep a file each in ")


def test_any_free_port_cannot_be_shared(settings: Settings) -> None:
    assert refused(replace(settings, port=0)).startswith("HEADRACE_PORT: a port that several front ends share must be")


def test_elsewhere_than_on_linux_it_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "can_share", lambda: False)
    assert refused(settings).startswith("HEADRACE_FRONT_ENDS: only Linux")


def _take_when_told(settings: Settings, told: Connection) -> None:
    told.recv()
    try:
        seat = seats.take(settings)
    except SettingsError as error:
        told.send(str(error))
    else:
        seat.listener.listen(1)
        told.send(seat.number)
    told.recv()


@pytest.mark.timeout(60)
def test_of_those_that_start_at_once_each_has_a_number_of_its_own(settings: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    with ExitStack() as ended:
        ours = []
        for _ in range(4):
            own, theirs = context.Pipe()
            process = context.Process(target=_take_when_told, args=(settings, theirs))
            process.start()
            ended.callback(process.join)
            ended.callback(own.send, "end")
            ours.append(own)
        for one in ours:
            one.send("go")
        found = [one.recv() for one in ours]
    assert sorted(one for one in found if isinstance(one, int)) == [0, 1, 2]
    [refusal] = [one for one in found if isinstance(one, str)]
    assert "is in use by 3 front ends" in refusal
