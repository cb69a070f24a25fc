"""The table of outcomes."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest

from shared.wire import outcomes
from shared.wire.outcomes import ALL, BY_CODE, Outcome, RequestError


def test_every_outcome_stands_in_the_table_once() -> None:
    defined = [value for value in vars(outcomes).values() if isinstance(value, Outcome)]
    assert len(ALL) == len(set(ALL)) == len(defined)
    assert set(ALL) == set(defined)


def test_codes_are_unique_and_fit_for_labels() -> None:
    assert len(BY_CODE) == len(ALL)
    for code in BY_CODE:
        assert re.fullmatch("[a-z][a-z_]*", code)


@pytest.mark.parametrize("outcome", ALL, ids=lambda outcome: outcome.code)
def test_statuses_are_valid(outcome: Outcome) -> None:
    # 499 (nobody wants the answer any more) is no status of the standard, but usual.
    assert outcome.status == 499 or HTTPStatus(outcome.status)
    assert (outcome in (outcomes.OK, outcomes.ACCEPTED)) == (outcome.status < 400)
    assert outcome.retry == (outcome.status in (429, 503, 507))


def test_expired_work_is_never_stored() -> None:
    assert not outcomes.EXPIRED.lasting
    assert not outcomes.CANCELLED.lasting
    assert outcomes.OK.lasting
    assert outcomes.INVALID_INPUT.lasting


def test_the_two_kinds_of_bad_input() -> None:
    error = outcomes.invalid("Too small.", "inputs[0].shape")
    assert (error.outcome, error.message, error.field) == (outcomes.INVALID_INPUT, "Too small.", "inputs[0].shape")
    error = outcomes.malformed("Not JSON.")
    assert (error.outcome, str(error), error.field) == (outcomes.MALFORMED, "Not JSON.", None)


def test_an_error_carries_what_its_body_shows() -> None:
    error = RequestError(outcomes.LANE_FULL, "Full.", request_id="a", retry_after_s=1)
    assert (error.request_id, error.retry_after_s, error.field) == ("a", 1, None)
