"""Processes that die at the worst moment, hold the interpreter's lock, or are restarted in turn under load."""

from __future__ import annotations

import http.client
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from shared import keys
from shared.redis.client import connect
from tests.contract.lanes import LANE, RedisLane, card
from tests.e2e.stack import Stack, echo_models, shared_front_end
from tests.fault.fragile import models_file
from tests.fault.site import redeliveries
from tests.helpers import eventually

wait_until = partial(eventually, limit_s=50.0)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def front_end(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with shared_front_end(valkey_url, tmp_path_factory.mktemp("front_end"), LEASE_MS="3000") as url:
        yield url


@pytest.fixture
def fragile(front_end: str, valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Stack]:
    """A front end; the consumers' model misbehaves as told."""
    models = models_file(tmp_path, model_name)
    with Stack(valkey_url, models, LEASE_MS="3000", LONGEST_BATCH_MS="8000", WINDOW_MS="0") as stack:
        stack.url = front_end
        yield stack


def batches(folder: Path, row: str) -> int:
    """How often a batch with this row was run, by whomever."""
    lines = [line for noted in folder.glob("batches-*") for line in noted.read_text().splitlines()]
    return sum(row in line.split(" ") for line in lines)


def stored(url: str, model: str, request_id: str) -> int:
    """How many replies the key of a request holds."""
    with connect(url) as redis:
        count: Any = redis.llen(keys.reply(model, LANE, request_id))
        return int(count)


def test_row_2_a_consumer_killed_between_computing_and_committing(
    fragile: Stack, valkey_url: str, model_name: str, tmp_path: Path
) -> None:
    (tmp_path / "hold").touch()
    doomed = fragile.start_consumer(model_name)
    fragile.wait(model_name)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fragile.predict, model_name, b"linger", query="?id=computed&timeout_ms=50000")
        wait_until((tmp_path / "lingers").exists)  # it is computed, and its reply is being made
        doomed.signal(signal.SIGKILL)
        doomed.popen.wait()
        assert stored(valkey_url, model_name, "computed") == 0
        (tmp_path / "hold").unlink()
        fragile.start_consumer(model_name)
        answer = waiting.result()
    assert (answer.status, bytes(answer.body["outputs"][0]["data"])) == (200, b"linger")
    assert batches(tmp_path, "linger") == 2
    assert stored(valkey_url, model_name, "computed") == 1


def test_row_6_the_interpreters_lock_held_for_a_third_of_the_lease(fragile: Stack, model_name: str) -> None:
    """Leases are renewed four times in one, so one renewal comes late, and nobody takes anything over."""
    consumers = [fragile.start_consumer(model_name) for _ in range(2)]
    fragile.wait(model_name)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(fragile.predict, model_name, b"grip-1", query=f"?id=grip-{n}") for n in range(3)]
        assert [answer.result().status for answer in asked] == [200] * 3
    assert [redeliveries(fragile, model_name, one) for one in consumers] == [0.0, 0.0]


def test_row_6_the_interpreters_lock_held_longer_than_the_lease(
    fragile: Stack, valkey_url: str, model_name: str, tmp_path: Path
) -> None:
    """What was taken over is run twice, and answered once."""
    consumers = [fragile.start_consumer(model_name) for _ in range(2)]
    fragile.wait(model_name)
    answer = fragile.predict(model_name, b"grip-5", query="?id=long&timeout_ms=50000")
    assert (answer.status, bytes(answer.body["outputs"][0]["data"])) == (200, b"grip-5")
    wait_until(lambda: sum(redeliveries(fragile, model_name, one) for one in consumers) == 1.0)
    assert [one.terminate() for one in consumers] == [0, 0]  # both are alive, and finish what they hold
    assert batches(tmp_path, "grip-5") == 2
    assert stored(valkey_url, model_name, "long") == 1
    with connect(valkey_url) as redis:
        assert redis.exists(keys.dead_letters(model_name, LANE)) == 0
        assert redis.xlen(keys.work(model_name, LANE)) == 0


class Client:
    """Asks again and again; goes to the next front end when its connection is closed between two answers.

    Args:
        admitted: says whether a request has ever been put into the lane: then it was the server that had to speak.
    """

    def __init__(self, name: str, model: str, urls: list[str], admitted: Callable[[str], bool]) -> None:
        self._name, self._target, self._urls = name, f"/v1/models/{model}/predict", urls
        self._admitted = admitted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._connection: http.client.HTTPConnection | None = None
        self._turn = 0
        self.answered = 0
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            request_id = f"{self._name}-{self.answered}"
            status, content = self._ask(request_id)
            if status != 200 or request_id.encode() not in content:
                self.errors.append(f"{status}: {content!r}")
            self.answered += 1
        if self._connection is not None:
            self._connection.close()

    def _ask(self, request_id: str) -> tuple[int, bytes]:
        body, target = request_id.encode(), f"{self._target}?id={request_id}"
        headers = {"Content-Type": "application/octet-stream", "Accept": "application/msgpack"}
        while True:
            if self._connection is None:
                self._turn += 1
                address = urlsplit(self._urls[self._turn % len(self._urls)])
                self._connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
            try:
                self._connection.request("POST", target, body, headers)
                answer = self._connection.getresponse()
                content = answer.read()
            except ConnectionError:  # RemoteDisconnected is one: closed before the first byte of an answer
                self._connection.close()
                self._connection = None
                if self._admitted(request_id):
                    self.errors.append(f"{request_id} was admitted, and then its connection was cut.")
                if self._stop.is_set():  # nobody may be there any more, when the test has failed
                    return 0, b""
                continue
            if answer.will_close:
                self._connection.close()
                self._connection = None
            return answer.status, content


@pytest.mark.soak  # each process alone is killed in rows 1, 2, 7 and 8
def test_row_4_every_process_restarted_in_turn_under_load(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    models = echo_models(tmp_path, model_name)
    with (
        connect(valkey_url) as redis,
        Stack(valkey_url, models, LEASE_MS="1500", DEFAULT_TIMEOUT_MS="5000") as stack,
    ):

        def admitted(request_id: str) -> bool:
            places = (keys.flight(model_name, LANE, request_id), keys.reply(model_name, LANE, request_id))
            return bool(redis.exists(*places))

        front_ends, urls = [], []
        for _ in range(2):
            front_ends.append(stack.start_front_end())
            urls.append(stack.url)
        consumers = [stack.start_consumer(model_name) for _ in range(2)]
        stack.wait(model_name)
        clients = [Client(f"client-{number}", model_name, urls, admitted) for number in range(6)]

        def go_on() -> None:
            begun = [client.answered for client in clients]
            wait_until(lambda: all(one.answered > before + 3 for one, before in zip(clients, begun, strict=True)))

        taken_over = 0.0
        with ExitStack() as running:
            for client in clients:
                running.enter_context(client)
            for index in range(2):
                go_on()
                # Whose request was left behind waits until it has been taken over, so this one has counted it by now.
                taken_over += redeliveries(stack, model_name, consumers[index])
                assert consumers[index].terminate() == 0
                go_on()
                consumers[index] = stack.start_consumer(model_name)
                go_on()
                assert front_ends[index].terminate() == 0
                go_on()
                front_ends[index] = stack.start_front_end()
                urls[index] = stack.url
            go_on()
        assert [client.errors for client in clients] == [[]] * len(clients)
        assert taken_over + sum(redeliveries(stack, model_name, one) for one in consumers) == 0.0
        assert redis.xlen(keys.work(model_name, LANE)) == 0


def test_row_24_two_consumers_that_reclaim_at_the_same_moment(valkey_url: str, model_name: str) -> None:
    count, lease_ms = 300, 500
    lane = RedisLane(model_name, valkey_url)
    try:
        dead, *living = (lane.stream(name, lease_ms) for name in ("dead", "one", "other"))
        begin = threading.Barrier(len(living))
        found: list[list[bytes]] = [[] for _ in living]

        def reclaim(index: int) -> None:
            begin.wait()
            while entries := living[index].reclaim(1):
                found[index] += [entry.entry_id for entry in entries]

        dead.heartbeat(card(model_name), {})
        added = [lane.add(b"%d" % number) for number in range(count)]
        assert len(dead.read(count)) == count
        wait_until(lambda: lane.client.xpending_range(lane.work, keys.GROUP, "-", "+", 1, idle=lease_ms))
        threads = [threading.Thread(target=reclaim, args=(index,)) for index in range(len(living))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not set(found[0]) & set(found[1])
        assert sorted(found[0] + found[1]) == sorted(added)  # type: ignore[type-var]
        assert all(found), "one of them did everything"
    finally:
        lane.close()
