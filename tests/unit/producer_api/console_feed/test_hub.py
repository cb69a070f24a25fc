"""Listeners of the feed: one look for all of them, none while nobody listens, and none that waits for a slow one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Set
from functools import wraps
from typing import Any

import pytest

from producer_api.console.feed.hub import LEAST_S, MOST_LISTENERS, Hub
from shared.wire.outcomes import RequestError
from tests.helpers import eventually_async


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test on an event loop of its own."""

    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


class Builds:
    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []

    async def __call__(self, models: Set[str]) -> dict[str, bytes]:
        self.asked.append(frozenset(models))
        return {model: f"{model}{len(self.asked)}".encode() for model in models}


@on_a_loop
async def test_all_listeners_share_one_look_and_nothing_runs_without_one() -> None:
    builds = Builds()
    hub = Hub(builds, lambda: False, tick_s=0.02)
    first, second, third = hub.enter("a"), hub.enter("a"), hub.enter("")
    assert await first.next(5) == await second.next(5) == b"a1"
    assert await third.next(5) == b"1"
    assert builds.asked[0] == {"a", ""}
    await eventually_async(lambda: len(builds.asked) >= 5)
    # What came meanwhile is the latest, once.
    latest = await first.next(5)
    assert latest is not None
    assert int(latest[1:]) >= 4
    for listener in (first, second, third):
        hub.leave(listener)
    seen = len(builds.asked)
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert len(builds.asked) <= seen + 1
    assert hub.count == 0
    await hub.close()


@on_a_loop
async def test_one_more_than_may_listen_is_refused_with_a_sentence() -> None:
    hub = Hub(Builds(), lambda: False)
    listeners = [hub.enter("") for _ in range(MOST_LISTENERS)]
    with pytest.raises(RequestError, match="100 clients listen") as refused:
        hub.enter("")
    assert (refused.value.outcome.code, refused.value.retry_after_s) == ("overloaded", 10)
    hub.leave(listeners[0])
    hub.enter("")
    await hub.close()


@on_a_loop
async def test_many_questions_at_once_look_once() -> None:
    builds = Builds()
    hub = Hub(builds, lambda: False)
    answers = await asyncio.gather(*(hub.once("a") for _ in range(50)))
    assert set(answers) == {b"a1"}
    assert LEAST_S > 0.1
    await hub.close()


@on_a_loop
async def test_listeners_end_when_the_front_end_stops_or_closes() -> None:
    is_stopping = False
    hub = Hub(Builds(), lambda: is_stopping, tick_s=60)
    listener = hub.enter("a")
    assert await listener.next(5) == b"a1"
    is_stopping = True
    await listener.next(5)
    assert listener.is_over
    other = Hub(Builds(), lambda: False)
    last = other.enter("a")
    await other.close()
    assert last.is_over
    await hub.close()
