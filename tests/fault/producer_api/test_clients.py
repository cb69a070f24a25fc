"""Clients that go away, ask twice, or change their minds: real processes, and two front ends where it matters."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.stack import Response, call
from tests.fault.site import LANE, Site, body_of, wait_until
from tests.helpers import first

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

CROWD = 1000
OWN = 100
AT_ONCE = 100
TTL_S = 0.5
"""Generous: how late the answer to a request may be that has run out of time, on a machine with much to do."""


@pytest.fixture
def site(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Site]:
    with Site(valkey_url, model_name, tmp_path, LEASE_MS="1500", WINDOW_MS="0", MAX_BATCH="8") as made:
        yield made


def send(url: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Response:
    """Send one request on a connection of its own."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "application/octet-stream", **(headers or {})})
        answer = connection.getresponse()
        return Response(answer.status, dict(answer.headers), json.loads(answer.read()))
    finally:
        connection.close()


def walk_in(site: Site, body: bytes, request_id: str = "") -> socket.socket:
    """Send a request and do not read the answer."""
    place = urlsplit(site.stack.url)
    connection = socket.create_connection((place.hostname or "", place.port or 0), timeout=30)
    query = f"?timeout_ms=60000{'&id=' if request_id else ''}{request_id}"
    head = f"POST /v1/models/{site.model}/predict{query} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n"
    connection.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + body)
    return connection


def walk_out(connection: socket.socket, *, at_once: bool) -> None:
    if at_once:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def in_flight(site: Site) -> float:
    with_metrics = http.client.HTTPConnection(urlsplit(site.stack.url).netloc, timeout=10)
    with_metrics.request("GET", "/metrics")
    text = with_metrics.getresponse().read().decode()
    with_metrics.close()
    (line,) = [line for line in text.splitlines() if line.startswith("headrace_requests_in_flight ")]
    return float(line.split()[1])


def test_row_17_a_crowd_goes_away_while_it_waits(site: Site) -> None:
    site.front_end()
    front_end = site.stack.latest.popen.pid
    site.consumer()
    site.stack.wait(site.model)
    lookup = f"{site.stack.url}/v1/models/{site.model}/requests/"
    assert call(f"{lookup}nothing").status == 404  # which opens the connections that look-ups need
    hold = site.hold()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(site.ask, b"hold", "held", 60_000)
        wait_until(lambda: site.runs_of("hold") == 1)
        before, files = site.added(), len(os.listdir(f"/proc/{front_end}/fd"))
        # What the consumer claims while it is busy are a few of the first.
        crowd = [walk_in(site, b"own", f"own-{number}") for number in range(OWN)]
        wait_until(lambda: site.added() == before + OWN)
        crowd += [walk_in(site, b"gone") for _ in range(CROWD - OWN)]
        wait_until(lambda: site.added() == before + CROWD)
        for number, connection in enumerate(crowd):
            walk_out(connection, at_once=number % 2 == 0)
        wait_until(lambda: site.length() == 1 + OWN)
        assert in_flight(site) == 1
        hold.unlink()
        assert body_of(held.result()) == b"hold"
    wait_until(lambda: site.length() == 0)
    assert (site.runs_of("own"), site.runs_of("gone")) == (OWN, 0)
    answers = [call(f"{lookup}own-{number}") for number in range(OWN)]
    assert [body_of(answer) for answer in answers] == [b"own"] * OWN
    wait_until(lambda: in_flight(site) == 0)
    wait_until(lambda: len(os.listdir(f"/proc/{front_end}/fd")) <= files)
    head = f"hr:{{{site.model}}}:"
    keys: Any = list(site.redis.scan_iter(match=f"{head}*", count=1000))
    stay = {f"{head}{name}".encode() for name in ("card", "lanes", f"q:{LANE}")}
    assert [key for key in keys if key not in stay and site.redis.pttl(key) < 0] == []
    assert len([key for key in keys if key.startswith(f"{head}r:".encode())]) <= OWN + 1


@pytest.mark.parametrize("how", first(1, ["key", "id"]))
def test_row_21_a_hundred_at_once_are_one(site: Site, how: str) -> None:
    doors = [site.front_end(), site.front_end()]
    site.consumer()
    site.stack.wait(site.model)
    for door in doors:
        wait_until(partial(site.ready, door))
    before, together = site.added(), threading.Barrier(AT_ONCE)
    path = f"/v1/models/{site.model}/predict?timeout_ms=30000" + ("&id=same" if how == "id" else "")
    headers = {"Idempotency-Key": "7f3c1c1e-4d1b"} if how == "key" else {}

    def ask(number: int) -> Response:
        together.wait()
        return send(doors[number % 2], "POST", path, b"same", headers)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(ask, range(AT_ONCE)))
    assert [body_of(answer) for answer in answers] == [b"same"] * AT_ONCE
    assert len({answer.headers["x-request-id"] for answer in answers}) == 1
    assert (site.added() - before, site.runs_of("same")) == (1, 1)


def test_a_request_is_cancelled_at_another_front_end(site: Site) -> None:
    doors = [site.front_end(), site.front_end()]
    site.consumer()
    site.stack.wait(site.model)
    for door in doors:
        wait_until(partial(site.ready, door))
    place = f"/v1/models/{site.model}/requests/mine"
    stands: Callable[[str], Response] = lambda door: call(f"{door}{place}")  # noqa: E731
    hold = site.hold()
    with ThreadPoolExecutor(3) as pool:
        held = pool.submit(site.ask, b"hold", "held", 60_000)
        wait_until(lambda: site.runs_of("hold") == 1)
        waiting = [pool.submit(site.ask, b"mine", "mine", 60_000, door) for door in doors]
        wait_until(lambda: stands(doors[0]).status == 202)
        answers: list[Response] = []

        def all_told() -> bool:
            """One of the two may come after the first cancellation."""
            answers.append(send(doors[1], "DELETE", place))
            return all(future.done() for future in waiting)

        wait_until(all_told)
        ends = [future.result() for future in waiting]
        assert [(one.status, one.body["error"]["code"]) for one in ends] == [(499, "cancelled")] * 2
        assert {answer.status for answer in answers} <= {200, 404}
        assert answers[0].body == {"id": "mine", "model": site.model, "status": "cancelled"}
        assert [stands(door).body["error"]["code"] for door in doors] == ["unknown_request"] * 2
        hold.unlink()
        assert body_of(held.result()) == b"hold"
    assert site.runs_of("mine") == 0
    assert body_of(site.ask(b"again", "mine")) == b"again"
    assert body_of(stands(doors[0])) == b"again"
    late = send(doors[0], "DELETE", place)
    assert (late.status, late.body["error"]["code"]) == (409, "already_answered")


def test_row_22_a_deadline_that_passes_while_others_run(site: Site) -> None:
    """One runs, one is claimed and waits for it, one is in the lane: neither answer is later because of that."""
    site.front_end()
    site.consumer(MAX_BATCH="1")
    site.stack.wait(site.model)
    hold = site.hold()

    def ask(name: str) -> tuple[Response, float]:
        begun_s = time.monotonic()
        return site.ask(name.encode(), name, int(TTL_S * 1000)), time.monotonic() - begun_s

    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(site.ask, b"hold", "running", 60_000)
        wait_until(lambda: site.runs_of("hold") == 1)
        late = [pool.submit(ask, f"late-{number}") for number in range(2)]
        wait_until(lambda: (site.length(), site.pending()) == (3, 2))
        for answer, took_s in (one.result() for one in late):
            assert (answer.status, answer.body["error"]["code"]) == (504, "unknown_outcome")
            assert took_s >= TTL_S - 0.01
        # The client's deadline begins a moment before the entry's.
        wait_until(lambda: site.newest_age_ms() > 2000 * TTL_S)
        assert not running.done()
        hold.unlink()
        assert body_of(running.result()) == b"hold"
    wait_until(lambda: site.length() == 0)
    assert [site.runs_of(f"late-{number}") for number in range(2)] == [0, 0]
