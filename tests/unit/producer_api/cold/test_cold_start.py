"""When a model without a live consumer is expected to be served."""

from __future__ import annotations

import pytest

from producer_api.load.cold_start import ColdStart, cold_start
from producer_api.load.wait_estimate import SHARE, Service
from shared.state.failures import Failure
from shared.state.starts import Phase, Start

NOW_MS = 1_000_000
SERVICE = Service(8, 0.1)


def start(phase: Phase, took_ms: int = 0, seen_ms: int = NOW_MS - 60_000, failed: int = 0) -> Start:
    return Start("w", phase, seen_ms - 1000, seen_ms, "", took_ms, failed)


def died(deaths: int = 1, retry_in_ms: int = 500) -> Failure:
    return Failure(-9, deaths, NOW_MS + retry_in_ms, NOW_MS)


def test_while_one_loads_the_start_takes_what_is_left_of_it() -> None:
    found = {"a-0": start(Phase.LOADING, 4000, NOW_MS)}
    assert cold_start(3, found, {}, NOW_MS, SERVICE) == ColdStart(3, True, SERVICE)


def test_with_nobody_at_it_the_last_start_says_what_one_takes() -> None:
    found = {"a-0": start(Phase.READY, 7001, NOW_MS - 5), "b-0": start(Phase.READY, 90_000, NOW_MS - 9)}
    assert cold_start(None, found, {}, NOW_MS, None) == ColdStart(8, False)


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.LOADING])
def test_after_a_start_that_did_not_succeed_nothing_is_expected(phase: Phase) -> None:
    found = {"a-0": start(phase, 7000, NOW_MS - 20_000), "b-0": start(Phase.READY, 5000)}
    assert cold_start(None, found, {}, NOW_MS, None) is None


def test_where_no_start_was_ever_measured_nothing_is_expected() -> None:
    assert cold_start(None, {}, {}, NOW_MS, None) is None
    assert cold_start(None, {"a-0": start(Phase.READY)}, {}, NOW_MS, None) is None


@pytest.mark.parametrize("deaths", [1, 7])
def test_one_that_had_served_is_expected_again_after_its_pause(deaths: int) -> None:
    found = {"a-0": start(Phase.READY, 4000)}
    assert cold_start(None, found, {"a-0": died(deaths, 30_000)}, NOW_MS, None) == ColdStart(34, True)
    # It was started again, and has not said a word yet.
    assert cold_start(None, found, {"a-0": died(deaths, -1000)}, NOW_MS, None) == ColdStart(3, True)


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.FAILED])
def test_one_that_died_before_it_served_is_not_expected(phase: Phase) -> None:
    assert cold_start(None, {"a-0": start(phase, 4000)}, {"a-0": died()}, NOW_MS, None) is None


def test_one_that_died_before_its_first_word_is_not_expected() -> None:
    assert cold_start(None, {}, {"a-0": died()}, NOW_MS, None) is None


def test_the_wait_is_the_start_and_the_requests_ahead() -> None:
    assert ColdStart(5, True).wait_s(1000, 2.0) == 5.0
    assert ColdStart(5, True, SERVICE).wait_s(0, 1.0) == 5 + 0.1 / SHARE
    assert ColdStart(5, True, SERVICE).wait_s(800, 2.0) == pytest.approx(5 + (10 + 0.1) * 2 / SHARE)
