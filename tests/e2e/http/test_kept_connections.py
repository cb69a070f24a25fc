"""What happens to clients with kept connections, whose requests take the express way, when the rest is in trouble."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shared import keys
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.e2e.http_server import Connection
from tests.e2e.stack import Process, Stack, echo_models
from tests.embedded import EmbeddedServer
from tests.helpers import eventually

CLIENTS = 8

wait_until = partial(eventually, limit_s=50.0)

pytestmark = pytest.mark.fault


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this test's own."""
    with EmbeddedServer(ServerConfig(tmp_path / "redis", free_port(), appendonly="no", maxmemory_mb=64)) as server:
        yield server


@pytest.fixture
def stack(server: EmbeddedServer, tmp_path: Path, model_name: str) -> Iterator[Stack]:
    """A front end that waits three seconds for what is in flight when it stops; the model's window is zero."""
    models = echo_models(tmp_path, model_name)
    with Stack(server.url, models, LEASE_MS="1500", DEFAULT_TIMEOUT_MS="1000", WINDOW_MS="0") as stack:
        yield stack


class Client:
    """Asks again and again on one connection."""

    def __init__(self, stack: Stack, model: str) -> None:
        port = urlsplit(stack.url).port
        assert port is not None
        self._connection = Connection(port)
        self._target = f"{model}/predict?timeout_ms=20000"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.answers: list[int] = []

    def send(self) -> None:
        head = f"POST /v1/models/{self._target} HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\n"
        self._connection.send(head.encode() + b"Content-Length: 2\r\n\r\nhi")

    def receive(self) -> tuple[int, str]:
        """Read one answer: its status and what it says of the connection."""
        status, headers, _ = self._connection.response()
        return status, headers.get("connection", "")

    def ask(self) -> int:
        self.send()
        return self.receive()[0]

    def _ask(self) -> None:
        while not self._stop.is_set():
            self.answers.append(self.ask())

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60.0)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self._connection.__exit__()


@pytest.fixture
def front_end(stack: Stack, model_name: str) -> Process:
    return stack.start_front_end()


@pytest.fixture
def consumer(stack: Stack, front_end: Process, model_name: str) -> Process:
    started = stack.start_consumer(model_name)
    stack.wait(model_name)
    return started


@pytest.fixture
def clients(stack: Stack, consumer: Process, model_name: str) -> Iterator[list[Client]]:
    """Clients whose head is known: each has been answered twice."""
    made = [Client(stack, model_name) for _ in range(CLIENTS)]
    for client in made:
        assert [client.ask(), client.ask()] == [200, 200]
    yield made
    for client in made:
        client.close()


def test_no_request_is_lost_while_redis_is_in_trouble(
    clients: list[Client], consumer: Process, front_end: Process, server: EmbeddedServer, model_name: str
) -> None:
    work = keys.work(model_name, keys.DEFAULT_LANE)

    def go_on() -> None:
        begun = [len(client.answers) for client in clients]
        wait_until(lambda: all(len(client.answers) > before + 5 for client, before in zip(clients, begun, strict=True)))

    for client in clients:
        client.start()
    with connect(server.url) as redis:
        for _ in range(3):
            go_on()
            redis.function_flush("SYNC")
            go_on()
            redis.xgroup_destroy(work, keys.GROUP)
            go_on()
            for one in redis.client_list():
                if one["cmd"] == "xreadgroup":
                    redis.client_kill_filter(_id=one["id"])
        go_on()
        for client in clients:
            client.stop()
        assert {status for client in clients for status in client.answers} == {200}
        assert redis.xlen(work) == 0
    assert consumer.terminate() == 0
    assert front_end.terminate() == 0


def test_a_consumer_that_stops_under_load_costs_nothing(
    stack: Stack, clients: list[Client], consumer: Process, model_name: str
) -> None:
    second = stack.start_consumer(model_name)
    for client in clients:
        client.start()
    wait_until(lambda: all(len(client.answers) > 20 for client in clients))
    assert consumer.terminate() == 0
    reached = len(clients[0].answers)
    wait_until(lambda: len(clients[0].answers) > reached + 20)
    for client in clients:
        client.stop()
    assert {status for client in clients for status in client.answers} == {200}
    assert second.terminate() == 0


def takes_connections(stack: Stack) -> bool:
    try:
        Client(stack, "any").close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_front_end_that_stops_answers_everything_in_flight(
    stack: Stack, clients: list[Client], front_end: Process, consumer: Process, server: EmbeddedServer, model_name: str
) -> None:
    consumer.signal(signal.SIGSTOP)
    for client in clients:
        client.send()
    with connect(server.url) as redis:
        wait_until(lambda: redis.xlen(keys.work(model_name, keys.DEFAULT_LANE)) == CLIENTS)
    front_end.signal(signal.SIGTERM)
    wait_until(lambda: not takes_connections(stack))
    consumer.signal(signal.SIGCONT)
    assert [client.receive() for client in clients] == [(200, "close")] * CLIENTS
    assert front_end.popen.wait() == 0


def test_a_front_end_whose_time_for_stopping_is_over_says_so(
    clients: list[Client], front_end: Process, consumer: Process
) -> None:
    consumer.signal(signal.SIGSTOP)
    for client in clients:
        client.send()
    front_end.signal(signal.SIGTERM)
    answers = {client.receive() for client in clients}
    assert answers == {(503, "close")}
    assert front_end.popen.wait() == 0
