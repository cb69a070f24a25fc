"""What clients know that wait for later requests, and when they hear of a change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from producer_api.later.jobs import Asked, Job, State, encode_asked, job_from
from producer_api.later.listening import Listeners
from producer_api.load.waiting import Waiting
from shared.wire.outcomes import CLIENT_LIMIT, OVERLOADED, RequestError


def record(state: bytes = b"open", seq: int = 3, **others: Any) -> list[Any]:
    fields = {b"state": state, b"entry": b"5-1", b"seq": b"%d" % seq}
    fields |= {name.encode(): value for name, value in others.items()}
    return [part for pair in fields.items() for part in pair]


def job(state: bytes = b"open", seq: int = 3, **others: Any) -> Job:
    found = job_from("a", record(state, seq, **others))
    assert found is not None
    return found


def test_a_record_is_read() -> None:
    assert job(position=2).state is State.QUEUED
    assert job(position=2).position == 2
    assert job(claimed=1).state is State.RUNNING
    assert job(b"failed", code=b"model_error").code == "model_error"
    asked = job(request=encode_asked("/v1/x", "text/plain", {"outputs": ["a"]})).asked
    assert asked is not None
    assert (asked.route, asked.media_type) == ("/v1/x", "text/plain")


@pytest.mark.parametrize("fields", [[], [b"state", b"open"], [b"state", b"lost", b"entry", b"1-1", b"seq", b"1"]])
def test_a_record_that_makes_no_sense_is_none(fields: list[Any]) -> None:
    assert job_from("a", fields) is None


@pytest.mark.parametrize("request_field", [b"", b"\xc1", b"\x93", b"\x91\x01", b"\x90" * 3000])
def test_what_a_dialect_asked_is_none_where_it_cannot_be_read(request_field: bytes) -> None:
    asked: Asked | None = job(request=request_field).asked
    assert asked is None


def test_a_listener_hears_of_each_change_once() -> None:
    async def go() -> None:
        listeners = Listeners()
        one = listeners.add("a")
        one.seen(job(position=3))
        assert await one.change(0)
        assert not await one.change(0)
        listeners.moved(1, b"1-0")
        assert (await one.change(0), one.position) == (True, 2)
        listeners.moved(1, b"1-0")
        assert not await one.change(0)
        listeners.moved(9, b"5-0")
        assert (await one.change(0), one.position) == (True, 1)
        listeners.moved(1, b"5-1")
        assert (await one.change(0), one.state, one.position) == (True, State.RUNNING, 0)
        listeners.seen({"a": job(position=3)})
        assert one.state is State.RUNNING
        listeners.ended("a", "ok")
        listeners.ended("a", "expired")
        assert (await one.change(0), one.state, one.code) == (True, State.DONE, "ok")
        one.close()
        one.close()
        assert not len(listeners)

    asyncio.run(go())


def test_the_latest_counts_however_much_was_missed() -> None:
    async def go() -> None:
        listeners = Listeners()
        one = listeners.add("a")
        for ended in range(1000):
            one.seen(job(seq=2000, position=2000))
            listeners.moved(ended, b"1-0")
        assert (await one.change(0), one.position) == (True, 1001)
        assert not await one.change(0)

    asyncio.run(go())


def test_a_record_that_is_lost_ends_its_listener_and_one_that_is_still_to_come_does_not() -> None:
    async def go() -> None:
        listeners = Listeners()
        known, unknown = listeners.add("a"), listeners.add("b")
        known.seen(job(position=1))
        listeners.seen({"a": None, "b": None})
        assert (known.state, known.code) == (State.FAILED, "unknown_outcome")
        assert unknown.state is None

    asyncio.run(go())


def test_waiting_ends_with_the_front_end() -> None:
    async def go() -> None:
        listeners = Listeners()
        one = listeners.add("a")
        listeners.stop()
        await one.end(3600)
        assert one.is_over

    asyncio.run(go())


def test_clients_that_wait_are_bounded_together_and_each() -> None:
    waiting = Waiting(4)
    for _ in range(2):
        waiting.enter("alice")
    with pytest.raises(RequestError) as caught:
        waiting.enter("alice")
    assert caught.value.outcome is CLIENT_LIMIT
    waiting.enter("bob", 1)
    with pytest.raises(RequestError) as caught:
        waiting.enter("bob", 1)
    assert caught.value.outcome is CLIENT_LIMIT
    waiting.enter()
    with pytest.raises(RequestError) as caught:
        waiting.enter("carol")
    assert caught.value.outcome is OVERLOADED
    waiting.leave("alice")
    waiting.enter("carol")
    assert waiting.count == 4
