"""A client that listens to events and never reads: bounded, and cut off, while others are served."""

from __future__ import annotations

import socket
from collections.abc import Callable

from starlette.routing import Route

from producer_api.later.interface import Done, LaterRequests, NewJob
from producer_api.later.jobs import Job, State
from producer_api.later.listening import Listener, Listeners
from producer_api.queue.interface import ModelState
from producer_api.routes import events
from shared.settings import Settings
from shared.wire.messages import Reply
from tests.e2e.http_server import HttpServer
from tests.helpers import eventually


class StillLater(LaterRequests):
    """Has one request of every id, which is queued and stays so."""

    def __init__(self) -> None:
        self.listeners = Listeners()

    async def start(self, is_stopping: Callable[[], bool]) -> None:
        pass

    async def close(self) -> None:
        pass

    def submit(self, state: ModelState, lane: str, job: NewJob, done: Done) -> None:
        raise NotImplementedError

    def listen(self, model: str, lane: str, request_id: str) -> Listener:
        return self.listeners.add(request_id)

    async def find(self, model: str, lane: str, request_id: str) -> tuple[Job | None, Reply | None]:
        return Job(request_id, State.QUEUED, 1, "", b"1-1", 1, None), None


def endpoint(server: HttpServer) -> events.Events:
    """The one that answers; to change its time between pings."""
    found = [one.app for one in server.app.routes if isinstance(one, Route) and one.path == events.PATH]
    assert isinstance(found[0], events.Events)
    return found[0]


def listen(server: HttpServer, client: socket.socket) -> None:
    client.connect(("127.0.0.1", server.port))
    client.sendall(b"GET /v1/models/echo/requests/a/events HTTP/1.1\r\nHost: test\r\n\r\n")


def test_a_listener_that_never_reads_is_cut_off_and_another_is_not() -> None:
    """Pings come without a pause, so that the buffers of both ends are full soon."""
    later = StillLater()
    with HttpServer(Settings(write_timeout_s=0.2), later=later) as server, socket.socket() as deaf:
        endpoint(server).ping_s = 0.0
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listen(server, deaf)
        eventually(lambda: len(later.listeners) == 1)
        most = 0

        def is_cut_off() -> bool:
            nonlocal most
            most = max(most, int(server.metric("headrace_sending_bytes")))
            return not len(later.listeners)

        eventually(is_cut_off)
        assert most < 10_000
        assert server.metric("headrace_answers_given_up_total", why="stalled") == 1
        assert server.metric("headrace_later_listeners") == 0
        with socket.socket() as reader:
            listen(server, reader)
            heard = b""
            while heard.count(b": ping") < 100:
                heard += reader.recv(65536)
        assert b"event: queued" in heard
        eventually(lambda: not len(later.listeners))
