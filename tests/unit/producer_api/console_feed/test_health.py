"""What the console calls healthy, and what it says to do about the rest."""

from __future__ import annotations

from typing import Any

import pytest

from producer_api.console.feed.counts import Counts
from producer_api.console.feed.documents import State
from producer_api.console.feed.health import MOST_REASONS
from producer_api.console.feed.seen import LaneSeen, LaneSettingsSeen, ModelSeen, Seen, WorkerSeen
from producer_api.console.feed.state import Recent, state
from producer_api.queue.interface import Catalogue, ModelState
from shared.state.desired_state import Serving
from tests.fakes import ECHO

MB = 1 << 20


def model(**changes: Any) -> ModelState:
    given = {"name": "echo", "card": ECHO, "workers": 1, "lanes": {"default": 10}, "lengths": {"default": 0}}
    return ModelState(**{**given, **changes})


def shown(*models: ModelState, seen: Seen | None = None, recent: Recent | None = None, **of_model: Any) -> State:
    one = seen or Seen(1_000_000, models={"echo": ModelSeen(**of_model)})
    catalogue = Catalogue({state.name: state for state in models}, redis_ok=True)
    return state(catalogue, one, recent or Recent([]), "echo")


def test_a_model_that_serves_is_healthy() -> None:
    found = shown(model())
    assert (found.health.level, found.health.reasons) == ("ok", [])


LATE = WorkerSeen("w1", 999_500, {"late_s": "7"})
IDLE = WorkerSeen("w", 1_000_000, {})
OLD = {"default": LaneSeen(running=0, oldest_ms=1_000_000 - 30_000)}
RESTS = LaneSettingsSeen(paused=frozenset({"default"}))
TWO = {"default": 2}
CASES: dict[str, tuple[ModelState, dict[str, Any], str, str, str]] = {
    "away": (model(workers=0, queued=3), {}, "bad", "no live worker, and 3 requests wait", "headrace up"),
    "failed": (model(workers=0, failures={"p": "It died."}), {}, "bad", "echo has failed. It died.", "log"),
    "loading": (model(workers=0, ready_in_s=9), {}, "warn", "is loading, probably for 9 s", "Wait"),
    "silent": (model(late=1), {}, "bad", "take requests and answer none", "end their processes"),
    "late": (model(workers=2, late=1), {"workers": [LATE]}, "warn", "w1 takes requests", "end its process"),
    "paused": (model(serving=Serving.PAUSED, queued=1), {}, "warn", "is paused, and 1 request waits", "resume echo"),
    "draining": (model(serving=Serving.DRAINING), {}, "warn", "being drained", "resume echo"),
    "versions": (model(versions=("1", "2")), {}, "warn", "versions 1, 2", "name of its own"),
    "full": (model(lengths={"default": 10}), {}, "warn", "Lane default of echo is full", "lane set echo default"),
    "paused lane": (model(lengths=TWO), {"settings": RESTS}, "warn", "is paused, and 2", "lane resume echo default"),
    "dead letters": (model(), {"dead": 4}, "warn", "4 dead letters", "dlq list echo"),
    "unclaimed": (
        model(lengths=TWO, queued=2),
        {"lanes": OLD, "workers": [IDLE]},
        "bad",
        "No worker claims the 2 requests in lane default",
        "doctor",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_thing_that_is_wrong_has_a_sentence_and_a_remedy(case: str) -> None:
    one, seen, level, what, do = CASES[case]
    health = shown(one, **seen).health
    assert health.level == level
    reasons = [reason for reason in health.reasons if what in reason.what]
    assert [reason.level for reason in reasons] == [level], health.reasons
    assert do in reasons[0].do


@pytest.mark.parametrize(
    ("used", "level", "what"), [(50, "ok", ""), (85, "warn", "uses 85 of 100 MB."), (97, "bad", "new requests are")]
)
def test_memory(used: int, level: str, what: str) -> None:
    health = shown(model(), seen=Seen(1, memory_used=used * MB, memory_limit=100 * MB)).health
    assert health.level == level
    assert what in (health.reasons[0].what if health.reasons else "")


def test_redis_away_is_all_that_is_told_then() -> None:
    found = shown(model(), seen=Seen(5, is_away=True))
    assert (found.redis.ok, found.health.level, found.at_ms) == (False, "bad", 5)
    [reason] = found.health.reasons
    assert "Redis does not answer" in reason.what


@pytest.mark.parametrize(("errors", "level"), [(0, "ok"), (4, "ok"), (30, "warn"), (300, "bad")])
def test_errors_count_by_their_share(errors: int, level: str) -> None:
    counts = {("echo", "default"): Counts(ended=1000, ok=1000 - errors, errors=errors, good=1000 - errors)}
    assert shown(model(), recent=Recent([(10.0, counts)])).health.level == level


def test_the_worst_comes_first_and_there_are_not_too_many() -> None:
    many = [model(name="echo", queued=1, workers=0), *(model(name=f"m{at}", late=1) for at in range(40))]
    health = shown(*many).health
    assert len(health.reasons) == MOST_REASONS + 1
    assert health.level == health.reasons[0].level == "bad"
    assert "more" in health.reasons[-1].what


def test_what_workers_say_is_shown_where_it_is_something() -> None:
    fields = {"busy": "0.25", "batch": "3.5", "fixed_ms": "nan", "slots": "1e99", "host": "h", "tokens_per_s": "-3"}
    old = WorkerSeen("w2", 999_000, {})
    found = shown(model(workers=2), workers=[WorkerSeen("w1", 999_500, fields), old])
    assert found.model is not None
    one, other = found.model.workers
    assert (one.busy, one.batch, one.fixed_ms, one.host, one.tokens_per_s, one.seen_ms) == (
        0.25,
        3.5,
        None,
        "h",
        None,
        500,
    )
    assert (other.busy, other.batch, other.unit, other.seen_ms) == (None, None, None, 1000)
    assert (found.model.busy, found.model.batch) == (0.25, 3.5)
