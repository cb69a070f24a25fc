"""Clients that mean harm: they are bounded or cut off, and nobody else is disturbed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.helpers import eventually

from . import calls
from .calls import request
from .raw_http2 import DATA, END_HEADERS, GOAWAY, HEADERS, PING, RST_STREAM, Connection, frame, framed, headers
from .site import ECHO, Site
from .site import site as serve
from .test_calls import counted

MESSAGE: bytes = request(ECHO).SerializeToString()
LARGE: bytes = request(ECHO, shape=(1, 15_000), raw=bytes(15_000)).SerializeToString()


@pytest.fixture(scope="module")
def site(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A front end that is impatient with clients that do not read."""
    with serve(valkey_url, tmp_path_factory.mktemp("grpc"), ECHO, WRITE_TIMEOUT_S="1") as running:
        eventually(lambda: calls.status(running.target, MESSAGE) == ("OK", ""))
        yield running


@pytest.fixture(autouse=True)
def others_are_served(site: Site) -> Iterator[None]:
    """An honest client has its answers before, during and after."""
    stop, failed = threading.Event(), list[tuple[str, str]]()

    def ask() -> None:
        with calls.channel(site.target) as own:
            call = own.unary_unary(calls.SERVICE + "ModelInfer")
            while not stop.is_set():
                call(MESSAGE, timeout=20)

    def guarded() -> None:
        try:
            ask()
        except Exception as error:
            failed.append(("failed", str(error)))

    honest = threading.Thread(target=guarded)
    honest.start()
    yield
    stop.set()
    honest.join(30)
    assert failed == []
    assert calls.status(site.target, MESSAGE) == ("OK", "")


def port_of(site: Site) -> int:
    return int(site.target.rpartition(":")[2])


def test_a_client_that_reads_no_answer_is_cut_off(site: Site) -> None:
    stalled = 'headrace_answers_given_up_total{why="stalled"}'
    before = counted(site, stalled)
    with Connection(port_of(site), window_bytes=0) as client:
        for stream in range(1, 21, 2):
            assert client.ask(stream, framed(LARGE))
        eventually(lambda: counted(site, "headrace_sending_bytes") >= 10 * 15_000)
        assert client.is_over.wait(20)
    eventually(lambda: counted(site, "headrace_sending_bytes") == 0)
    assert counted(site, stalled) > before


def test_a_stream_that_is_not_read_stops_reading_and_is_cut_off(site: Site) -> None:
    path = b"/inference.GRPCInferenceService/ModelStreamInfer"
    with Connection(port_of(site), window_bytes=0) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, headers(path)))
        for _ in range(4):
            client.send(frame(DATA, 0, 1, framed(LARGE)))
        assert client.is_over.wait(20)
    eventually(lambda: counted(site, "headrace_sending_bytes") == 0)
    eventually(lambda: counted(site, "headrace_requests_in_flight") <= 1)


def test_a_flood_of_pings_ends_the_connection(site: Site) -> None:
    with Connection(port_of(site)) as client:
        for _ in range(10_000):
            if not client.send(frame(PING, 0, 0, bytes(8))):
                break
        assert client.is_over.wait(20)
        assert GOAWAY in client.kinds


def test_thousands_of_calls_on_one_connection_are_bounded(site: Site) -> None:
    """Calls that never send their message take a place each; beyond the limit they are reset."""
    with Connection(port_of(site)) as client:
        for stream in range(1, 6001, 2):
            if not client.send(frame(HEADERS, END_HEADERS, stream, headers())):
                break
        eventually(lambda: client.is_over.is_set() or client.kinds.count(RST_STREAM) >= 1500)


def test_calls_that_are_reset_at_once_leave_nothing(site: Site) -> None:
    with Connection(port_of(site)) as client:
        for stream in range(1, 2001, 2):
            sent = client.ask(stream, framed(MESSAGE)) and client.send(frame(RST_STREAM, 0, stream, b"\0\0\0\x08"))
            if not sent:
                break
    eventually(lambda: counted(site, "headrace_requests_in_flight") <= 1)


def test_a_message_that_never_ends_goes_with_its_connection(site: Site) -> None:
    with Connection(port_of(site)) as client:
        assert client.ask(1, framed(LARGE)[:9000], is_whole=False)
    eventually(lambda: counted(site, "headrace_requests_in_flight") <= 1)


@pytest.mark.parametrize("rubbish", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"x" * 200, b"\0" * 5000])
def test_what_is_not_http_2_is_cut_off(site: Site, rubbish: bytes) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", port_of(site)), timeout=20) as client:
        client.sendall(rubbish)
        try:
            while client.recv(65536):
                pass
        except ConnectionResetError:
            pass
