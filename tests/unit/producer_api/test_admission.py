"""Admission: what the front end can tell without asking anybody."""

from __future__ import annotations

import pytest

from producer_api.admission import RETRY_AFTER_S, admit, find_model, refusal
from producer_api.queue import Catalogue, ModelState
from shared.outcomes import ALL, NO_WORKER, OVERLOADED, QUEUE_UNAVAILABLE, UNKNOWN_MODEL, Outcome, RequestError
from tests.fakes import ECHO

SERVED = ModelState("echo", ECHO, workers=1, queued=3)
OPEN = Catalogue({"echo": SERVED}, redis_ok=True)


def refused(catalogue: Catalogue, model: str = "echo", in_flight: int = 0, most: int = 10) -> RequestError:
    with pytest.raises(RequestError) as caught:
        admit(catalogue, model, in_flight, most)
    return caught.value


def test_a_model_that_is_served_is_let_in() -> None:
    assert admit(OPEN, "echo", 0, 1) is SERVED
    assert find_model(OPEN, "echo") is SERVED


@pytest.mark.parametrize(
    ("catalogue", "model", "outcome"),
    [
        (OPEN, "cat", UNKNOWN_MODEL),
        (Catalogue({}, redis_ok=True), "echo", UNKNOWN_MODEL),
        (Catalogue(), "echo", QUEUE_UNAVAILABLE),
        (Catalogue({"echo": SERVED}, redis_ok=False), "echo", QUEUE_UNAVAILABLE),
        (Catalogue({"echo": ModelState("echo", ECHO, workers=0)}, redis_ok=True), "echo", NO_WORKER),
        (Catalogue({"echo": ModelState("echo", None, workers=2)}, redis_ok=True), "echo", NO_WORKER),
    ],
)
def test_everything_else_is_refused_for_its_reason(catalogue: Catalogue, model: str, outcome: Outcome) -> None:
    assert refused(catalogue, model).outcome is outcome


def test_a_full_front_end_refuses_with_the_number() -> None:
    assert admit(OPEN, "echo", 9, 10) is SERVED
    error = refused(OPEN, in_flight=10, most=10)
    assert error.outcome is OVERLOADED
    assert "10" in error.message


def test_a_long_wrong_name_is_not_repeated_in_full() -> None:
    assert len(refused(OPEN, "x" * 10_000).message) < 200


@pytest.mark.parametrize("outcome", ALL, ids=lambda outcome: outcome.code)
def test_only_what_may_succeed_later_says_when(outcome: Outcome) -> None:
    error = refusal(outcome, "No.", "id-1")
    assert error.retry_after_s == (RETRY_AFTER_S if outcome.retry else None)
    assert error.request_id == "id-1"
