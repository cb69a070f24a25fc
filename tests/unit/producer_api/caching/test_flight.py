"""One inference for those who wait: whatever happens, each gets exactly one end, and nothing runs for nobody."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producer_api.caching.flight import Flight, Waiter
from producer_api.queue.interface import Answer, GiveUp
from shared.wire.messages import Fault, ModelTag, Reply, Request, Timing
from shared.wire.outcomes import CANCELLED, EXPIRED, INTERNAL, LANE_FULL, UNKNOWN_OUTCOME, RequestError


def answer(request: Request, code: str = "") -> Answer:
    fault = Fault(code, "No.") if code else None
    return Answer(Reply(request.id, ModelTag("m", "1", "fp32"), Timing(run=5), fault=fault))


class World:
    """A queue whose inferences end when a test says so, and the requests that wait."""

    def __init__(self, *, is_shared: bool = True) -> None:
        self.now_s = 0.0
        self.running: list[tuple[Request, Any]] = []
        self.launched: list[Request] = []
        self.cancelled: list[str] = []
        self.refuses = False
        self.ends: dict[str, Any] = {}
        self.counts: Counter[str] = Counter()
        self.is_over = 0
        self.flight = Flight(
            self.launch, lambda: self.now_s, lambda got: got if is_shared else None, lambda _: self.over()
        )

    def over(self) -> None:
        self.is_over += 1

    def launch(self, request: Request, done: Any) -> GiveUp:
        if self.refuses:
            raise RequestError(LANE_FULL, "Full.", retry_after_s=1)
        pair = (request, done)
        self.running.append(pair)
        self.launched.append(request)

        def give_up() -> None:
            if pair in self.running:
                self.running.remove(pair)
                self.cancelled.append(request.id)

        return give_up

    def waiter(self, name: str, ttl_ms: int = 1000) -> Waiter:
        def done(result: Any) -> None:
            self.ends[name] = result
            self.counts[name] += 1

        return Waiter(Request(name, ttl_ms), self.now_s + ttl_ms / 1000, done)

    def end(self, result: Any) -> None:
        request, done = self.running.pop(0)
        done(answer(request) if result is None else result)


def test_all_get_the_one_answer_each_under_its_own_id() -> None:
    world = World()
    world.flight.begin(world.waiter("a"))
    world.flight.join(world.waiter("b"))
    world.end(None)
    assert {name: end.reply.id for name, end in world.ends.items()} == {"a": "a", "b": "b"}
    assert (len(world.launched), world.is_over) == (1, 1)


def test_an_error_of_the_input_is_everyones() -> None:
    world = World()
    world.flight.begin(world.waiter("a"))
    world.flight.join(world.waiter("b"))
    world.end(RequestError(INTERNAL, "No.", field="body", request_id="a"))
    assert [(end.outcome, end.field, end.request_id) for end in world.ends.values()] == [
        (INTERNAL, "body", "a"),
        (INTERNAL, "body", "b"),
    ]
    assert world.ends["a"] is not world.ends["b"]


def test_a_deadline_of_the_first_is_its_own_and_the_next_one_asks_again_with_the_time_it_has_left() -> None:
    for outcome in (EXPIRED, UNKNOWN_OUTCOME, CANCELLED):
        world = World()
        world.flight.begin(world.waiter("a", 100))
        world.now_s = 0.05
        world.flight.join(world.waiter("b", 1000))
        world.now_s = 0.1
        world.end(RequestError(outcome, "Late."))
        assert world.ends["a"].outcome is outcome
        assert [(one.id, one.ttl_ms) for one in world.launched] == [("a", 100), ("b", 950)]
        world.end(None)
        assert world.ends["b"].reply.id == "b"


def test_the_first_may_go_and_the_others_still_get_the_answer() -> None:
    world = World()
    first = world.waiter("a")
    world.flight.begin(first)
    world.flight.join(world.waiter("b"))
    world.flight.leave(first)
    assert world.cancelled == []
    world.end(None)
    assert list(world.ends) == ["b"]
    assert world.ends["b"].reply.id == "b"


def test_one_that_asked_and_left_costs_nobody_the_answer() -> None:
    world = World()
    first = world.waiter("a")
    world.flight.begin(first)
    world.flight.join(world.waiter("b"))
    world.flight.leave(first)
    world.end(RequestError(EXPIRED, "Late."))
    assert (world.ends, [one.id for one in world.launched]) == ({}, ["a", "b"])
    world.end(None)
    assert world.counts == {"b": 1}


def test_when_nobody_waits_it_is_taken_back() -> None:
    world = World()
    waiters = [world.waiter("a"), world.waiter("b")]
    world.flight.begin(waiters[0])
    world.flight.join(waiters[1])
    world.flight.time_out(waiters[1])
    assert world.ends["b"].outcome is UNKNOWN_OUTCOME
    world.flight.leave(waiters[0])
    assert (world.cancelled, world.is_over, world.running) == (["a"], 1, [])


def test_where_the_answer_is_for_one_only_the_others_get_inferences_of_their_own() -> None:
    world = World(is_shared=False)
    waiters = [world.waiter(name) for name in "abc"]
    world.flight.begin(waiters[0])
    world.flight.join(waiters[1])
    world.flight.join(waiters[2])
    world.end(None)
    assert [one.id for one in world.launched] == ["a", "b", "c"]
    world.flight.leave(waiters[1])
    assert world.cancelled == ["b"]
    world.end(None)
    assert sorted(world.ends) == ["a", "c"]


def test_a_refusal_reaches_the_one_who_asks() -> None:
    world = World()
    world.flight.begin(world.waiter("a"))
    world.flight.join(world.waiter("b"))
    world.flight.join(world.waiter("c"))
    world.refuses = True
    world.end(RequestError(EXPIRED, "Late."))
    assert [end.outcome for end in world.ends.values()] == [EXPIRED, LANE_FULL, LANE_FULL]
    assert world.is_over == 1


Steps = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "time out", "answer", "fault", "late", "refuse"]), st.integers(0, 5)),
    max_size=25,
)


@given(Steps, st.booleans())
def test_each_gets_exactly_one_end_and_nothing_runs_for_nobody(steps: Any, is_shared: bool) -> None:
    world = World(is_shared=is_shared)
    waiters = [world.waiter("w0")]
    world.flight.begin(waiters[0])
    left = set()
    for what, number in steps:
        if what == "join" and not world.is_over:
            waiters.append(world.waiter(f"w{len(waiters)}"))
            world.flight.join(waiters[-1])
        elif what == "refuse":
            world.refuses = not world.refuses
        elif what in ("leave", "time out"):
            waiter = waiters[number % len(waiters)]
            name = waiter.request.id
            if world.counts[name] == 0 and name not in left:
                world.flight.leave(waiter) if what == "leave" else world.flight.time_out(waiter)
                if world.counts[name] == 0 and (what == "leave"):
                    left.add(name)
        elif world.running:
            request = world.running[0][0]
            ends: dict[str, Any] = {"answer": None, "fault": answer(request, "model_error")}
            world.end(ends.get(what, RequestError(EXPIRED, "Late.")))
    while world.running:
        world.end(None)
    for waiter in waiters:
        name = waiter.request.id
        assert world.counts[name] == (0 if name in left else 1), name
    assert world.is_over == 1
