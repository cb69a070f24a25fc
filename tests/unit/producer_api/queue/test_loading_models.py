"""Models that nobody serves yet: which of them are on their way."""

from __future__ import annotations

import pytest

from producer_api.load.loading_models import PATIENCE_MS, LoadingModels
from producer_api.queue.catalogue import CANNOT_LOAD, failures_of
from shared.state.failures import Failure
from shared.state.starts import FIRST_BEAT_MS, PRESUMED_MS, Phase, Start

NOW_MS = 1_000_000


def loading(since_ago: int = 0, seen_ago: int = 0, took: int = 0, failed: int = 0, now: int = NOW_MS) -> Start:
    return Start("w", Phase.LOADING, now - since_ago, now - seen_ago, "", took, failed)


def test_who_was_promised_is_on_its_way_until_patience_is_over() -> None:
    models = LoadingModels(["cat"])
    assert models.ready_in_s("cat", 0, {}, {}, NOW_MS) == PRESUMED_MS // 1000
    assert models.ready_in_s("cat", 0, {}, {}, NOW_MS + 4000) == PRESUMED_MS // 1000 - 4
    assert models.ready_in_s("cat", 0, {}, {}, NOW_MS + PATIENCE_MS - 1) is not None
    assert models.ready_in_s("cat", 0, {}, {}, NOW_MS + PATIENCE_MS) is None


def test_who_was_not_promised_is_on_its_way_once_it_says_so() -> None:
    models = LoadingModels(["cat"])
    assert models.ready_in_s("dog", 0, {}, {}, NOW_MS) is None
    assert models.ready_in_s("dog", 0, {"a-0": loading(1500, took=4000)}, {}, NOW_MS) == 3


def test_what_an_earlier_stack_left_in_redis_is_no_word_of_this_one() -> None:
    before = Start("w", Phase.READY, NOW_MS - 90_000, NOW_MS - 80_000, "", 6000)
    assert LoadingModels(["cat"]).ready_in_s("cat", 0, {"a-0": before}, {}, NOW_MS) == 6


@pytest.mark.parametrize(("phase", "later_ms"), [(Phase.READY, FIRST_BEAT_MS + 1), (Phase.FAILED, 100)])
def test_whose_consumer_has_spoken_and_is_gone_is_not_on_its_way(phase: Phase, later_ms: int) -> None:
    models = LoadingModels(["cat"])
    assert models.ready_in_s("cat", 0, {}, {}, NOW_MS)
    said = Start("w", phase, NOW_MS + 100, NOW_MS + 200)
    assert models.ready_in_s("cat", 0, {"a-0": said}, {}, NOW_MS + 200 + later_ms) is None
    assert models.ready_in_s("cat", 0, {}, {}, NOW_MS + 300 + later_ms) is None


def test_between_its_last_word_and_its_first_heartbeat_it_is_on_its_way() -> None:
    models = LoadingModels()
    ready = {"a-0": Start("w", Phase.READY, NOW_MS - 9000, NOW_MS, "", 9000)}
    assert models.ready_in_s("cat", 0, {"a-0": loading(9000)}, {}, NOW_MS)
    assert models.ready_in_s("cat", 0, ready, {}, NOW_MS + 10) == 1
    assert models.ready_in_s("cat", 1, ready, {}, NOW_MS + 20) is None
    assert models.ready_in_s("cat", 0, ready, {}, NOW_MS + 30) is None  # it has served, and left


def test_whose_consumers_have_lived_and_are_gone_is_not_on_its_way() -> None:
    models = LoadingModels(["cat"])
    assert models.ready_in_s("cat", 1, {}, {}, NOW_MS) is None
    assert models.ready_in_s("cat", 0, {}, {}, NOW_MS + 1000) is None


def test_a_model_that_is_served_is_not_loading_although_another_consumer_is() -> None:
    assert LoadingModels(["cat"]).ready_in_s("cat", 1, {"a-0": loading()}, {}, NOW_MS) is None


def died(deaths: int = 1, retry_ago: int = 0) -> Failure:
    return Failure(137, deaths, NOW_MS - retry_ago, NOW_MS, "")


@pytest.mark.parametrize(
    ("start", "failure", "is_coming"),
    [
        (loading(since_ago=500), died(retry_ago=1000), True),  # it served before, and is started again
        (loading(since_ago=5000), died(retry_ago=-500), False),  # what says so is dead
        (loading(since_ago=500, failed=1), died(retry_ago=1000), False),  # it died while it loaded
        (loading(since_ago=500, failed=1), None, True),  # somebody stopped it while it loaded
        (loading(since_ago=500, failed=2), None, False),
    ],
)
def test_what_dies_again_and_again_is_not_promised(start: Start, failure: Failure | None, is_coming: bool) -> None:
    found = {} if failure is None else {"a-0": failure}
    assert (LoadingModels(["cat"]).ready_in_s("cat", 0, {"a-0": start}, found, NOW_MS) is not None) is is_coming


def test_what_tries_once_more_has_failed() -> None:
    assert failures_of({}, {"a-0": loading(failed=2), "b-0": loading(failed=1)}, NOW_MS) == {"a-0": CANNOT_LOAD}
    assert failures_of({}, {"a-0": loading(failed=2, seen_ago=20_000)}, NOW_MS) == {}
