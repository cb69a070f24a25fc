"""The engine against a real server on a real socket: every request ends in exactly one outcome, whatever happens."""

from __future__ import annotations

import asyncio
import socket
from itertools import islice, pairwise

import pytest
import uvloop

from loadgen.load import http_carrier
from loadgen.load.engine import Engine
from loadgen.load.runner import plan
from loadgen.results.ledger import OPEN
from loadgen.results.runfile import Counts
from loadgen.schedule import payload_cycle
from tests.proof.null_server import ANSWER, Behaviour, null_server
from tests.unit.loadgen.driving import drive, latency_of, measure, scenario_for


def failures(counts: Counts) -> dict[str, int]:
    """Return what failed, by kind, leaving out kinds that did not occur."""
    kinds = ("timeout", "connection", "malformed", "dropped", "interrupted")
    return {kind: getattr(counts, kind) for kind in kinds if getattr(counts, kind)} | {
        f"{item.status} {item.code}": item.count for item in counts.http
    }


def test_an_open_loop_sends_its_plan_and_gets_every_answer() -> None:
    counts, engine, server = measure()
    assert (counts.scheduled, counts.sent, counts.ok) == (100, 100, 100)
    assert server.inferences == 100
    assert engine.parsed_replies == 100
    assert engine.in_flight == 0
    ledger = engine.ledger
    for index in range(100):
        assert ledger.planned_s[index] <= ledger.picked_s[index] <= ledger.sent_s[index] <= ledger.done_s[index]
    gaps = [later - earlier for earlier, later in pairwise(ledger.planned_s)]
    assert all(abs(gap - 0.0025) < 1e-9 for gap in gaps)
    assert list(ledger.payload) == list(islice(payload_cycle(2, seed=3), 100))


def test_the_warm_up_is_sent_and_left_out() -> None:
    counts, engine, server = measure(warmup_s=0.1)
    assert counts.scheduled == 100
    assert server.inferences == 140
    assert sum(engine.ledger.warm) == 40


def test_a_closed_loop_keeps_its_concurrency_and_stops_in_time() -> None:
    counts, engine, server = measure(rate_per_s=None, concurrency=4, duration_s=0.2, connections=4)
    assert counts.scheduled == counts.ok == server.inferences > 4
    assert server.connections == 4
    assert max(engine.ledger.planned_s) <= engine.end_s


def test_a_stall_shows_in_the_latency_from_the_planned_time_and_hides_from_the_sent_time() -> None:
    """Coordinated omission: with two connections, the stall keeps all but two requests from being sent at all."""
    stall_s = 0.4
    counts, engine, _ = measure(
        Behaviour(stall_at=60, stall_s=stall_s), rate_per_s=300.0, duration_s=1.0, connections=2
    )
    assert counts.ok == 300
    latency = latency_of(engine)
    planned_p99, sent_p99, sent_max = latency.from_planned.p99_ms, latency.from_sent.p99_ms, latency.from_sent.max_ms
    assert planned_p99 is not None
    assert sent_p99 is not None
    assert sent_max is not None
    assert sent_max >= stall_s * 900  # who was under way when the server stood still has seen it
    assert planned_p99 >= stall_s * 900
    assert planned_p99 > 2 * sent_p99
    assert latency.from_planned.mean_ms is not None
    assert latency.from_sent.mean_ms is not None
    assert latency.from_planned.mean_ms > 3 * latency.from_sent.mean_ms


def test_requests_beyond_the_limit_are_dropped_and_counted() -> None:
    counts, engine, server = measure(Behaviour(stall_at=10, stall_s=0.2), max_in_flight=5, connections=5)
    assert set(failures(counts)) == {"dropped"}
    assert counts.scheduled == 100 == counts.ok + counts.dropped
    assert counts.sent == counts.ok == server.inferences
    assert engine.failed == counts.dropped > 0


def test_requests_without_an_answer_time_out_and_the_others_go_on() -> None:
    counts, _, _ = measure(Behaviour(silent_every=10), timeout_s=0.3)
    assert failures(counts) == {"timeout": 10}
    assert counts.ok == 90
    assert counts.sent == 100


def test_requests_that_wait_for_a_connection_time_out_too() -> None:
    counts, _, _ = measure(Behaviour(silent_every=1), timeout_s=0.1, connections=2, max_in_flight=100)
    assert counts.ok == 0
    assert failures(counts) == {"timeout": 100}
    assert counts.sent < 100


def test_error_answers_are_counted_by_status_and_code() -> None:
    counts, _, _ = measure(Behaviour(fail_every=4, status=429))
    assert failures(counts) == {"429 no_worker": 25}
    assert counts.ok == 75


@pytest.mark.parametrize(
    "body", [b"", b"ok", b"[]", b'{"predictions":[]}', b'{"predictions":[{}]', b'{"id":"x"}', ANSWER[:-1]]
)
def test_answers_that_are_none_are_malformed(body: bytes) -> None:
    counts, _, _ = measure(Behaviour(body=body), duration_s=0.025)
    assert failures(counts) == {"malformed": 10}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_server_that_announces_closing_loses_nothing(chunked: bool) -> None:
    counts, engine, server = measure(
        Behaviour(close_every=3, say_close=True, chunked=chunked), rate_per_s=None, concurrency=4
    )
    assert counts.ok == counts.scheduled == len(engine.ledger) == server.inferences
    assert counts.resent == 0
    assert server.connections >= counts.ok // 3


def test_a_server_that_closes_without_notice_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_carrier, "_CROSSING_S", 5.0)  # beside other tests this one may be late to see the close
    counts, _, server = measure(Behaviour(close_every=3), rate_per_s=None, concurrency=4)
    assert counts.ok == counts.scheduled == server.inferences
    assert failures(counts) == {}
    assert server.connections >= counts.ok // 3


def test_chunked_answers() -> None:
    counts, _, _ = measure(Behaviour(chunked=True))
    assert counts.ok == 100


def test_large_answers_arrive_in_parts() -> None:
    body = b'{"outputs":[{"data":[' + b",".join([b"1"] * 100_000) + b"]}]}"
    counts, engine, _ = measure(Behaviour(body=body), rate_per_s=100.0)
    assert counts.ok == 25
    assert engine.parsed_replies < 25


def test_nobody_listens() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = reserved.getsockname()[1]
        engine = drive(scenario_for(port), port)
    assert engine.failed == 100
    assert engine.ok == 0
    closed_loop = drive(scenario_for(port, rate_per_s=None, concurrency=2, duration_s=0.1), port)
    assert closed_loop.failed == len(closed_loop.ledger) < 50  # it pauses after a failure


def answered_with(answer: bytes) -> Engine:
    """Load a server that gives each request these bytes, and ends the connection."""

    async def scene() -> Engine:
        async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        scenario = scenario_for(port, duration_s=0.025)
        engine = Engine(scenario, plan(scenario), payload_cycle(2, 1), ("127.0.0.1", port))
        async with server:
            await engine.run()
        return engine

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(scene())


def test_answers_that_are_not_http() -> None:
    engine = answered_with(b"220 mail.example ESMTP\r\n")
    assert [engine.ledger.outcomes[outcome].kind for outcome in engine.ledger.outcome] == ["malformed"] * 10


def test_an_answer_without_length_ends_with_the_connection() -> None:
    assert answered_with(b"HTTP/1.1 200 OK\r\n\r\n" + ANSWER).ok == 10


def test_stopping_ends_at_once_and_leaves_nothing_open() -> None:
    async def scene(port: int) -> Engine:
        scenario = scenario_for(port, duration_s=60.0, rate_per_s=100.0)
        engine = Engine(scenario, plan(scenario), payload_cycle(2, 1), ("127.0.0.1", port))
        asyncio.get_running_loop().call_later(0.05, engine.stop)
        await engine.run()
        return engine

    with null_server(Behaviour(silent_every=1)) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        engine = runner.run(scene(server.port))
    kinds = [engine.ledger.outcomes[outcome].kind for outcome in engine.ledger.outcome]
    assert set(kinds) == {"interrupted"}
    assert OPEN not in engine.ledger.outcome
    assert engine.in_flight == 0


def test_a_request_that_the_service_took_and_dropped_has_failed() -> None:
    """On a kept connection, and long after a close could have crossed it: it is not sent again."""
    counts, _, server = measure(
        Behaviour(drop_every=5, delay_s=0.15), rate_per_s=None, concurrency=4, duration_s=1.0, connections=4
    )
    assert counts.resent == 0
    assert failures(counts) == {"connection": server.inferences // 5}
    assert counts.connection > 0
    assert counts.scheduled == server.inferences
