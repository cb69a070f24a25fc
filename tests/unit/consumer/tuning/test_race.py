"""The rules of the race, on times that are made up: what wins, what is given up, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from consumer.events import Parity
from consumer.tuning.findings import BatchTimes, check
from consumer.tuning.race import FP32, HOPELESS, NOISE, WORTH, Candidate, Race, Runner

TORCH = Candidate("torch", FP32)
ONNX = Candidate("onnxruntime", FP32)
VINO = Candidate("openvino", FP32)
BF16 = Candidate("openvino", "bf16")
INT8 = Candidate("onnxruntime", "int8")
SIZES = (1, 2, 4, 8)
EXACT = (TORCH, ONNX, VINO)
LOWER = (BF16, INT8)


def parity(precision: str = FP32) -> Parity:
    return Parity(precision, 46, 1.0, 0.001, 0.9999, True, "it agrees.")


def times(*milliseconds: float) -> BatchTimes:
    return tuple((rows, ms / 1000) for rows, ms in zip(SIZES, milliseconds, strict=False))


def race(*ran: tuple[Candidate, BatchTimes], exact: BatchTimes = (), budget_s: float = 60.0) -> Race:
    """Return a race in which all of these ran, in this order; ``exact`` was measured beside the lower precisions."""
    made = Race(SIZES[-1], budget_s)
    for candidate, measured in ran:
        made.ran(candidate, parity(candidate.precision), measured, measured[-1][1], () if candidate in EXACT else exact)
    return made


def chosen(made: Race, runtime: str = "auto", precision: str = "auto") -> Candidate:
    finding = made.finding(1.0, runtime, precision)
    return Candidate(finding.runtime, finding.precision)


def outcomes(made: Race, runtime: str = "auto", precision: str = "auto") -> dict[tuple[str, str], str]:
    return {(trial.runtime, trial.precision): trial.outcome for trial in made.finding(1.0, runtime, precision).trials}


def test_the_fastest_in_fp32_wins() -> None:
    made = race((TORCH, times(10, 18, 34, 66)), (ONNX, times(4, 8, 15, 29)), (VINO, times(5, 9, 16, 30)))
    assert chosen(made) == ONNX
    assert outcomes(made) == {
        ("torch", "fp32"): "not faster than onnxruntime in fp32.",
        ("onnxruntime", "fp32"): "chosen.",
        ("openvino", "fp32"): "not faster than onnxruntime in fp32.",
    }


def test_of_two_that_are_equally_fast_the_first_wins() -> None:
    made = race((TORCH, times(10, 20, 40, 80)), (ONNX, times(9.8, 19.6, 39.2, 78.4)))
    assert chosen(made) == TORCH


def test_a_lower_precision_must_be_faster_by_more_than_noise() -> None:
    exact = times(10, 20, 40, 80)
    assert chosen(race((TORCH, exact), (BF16, times(9.6, 19.2, 38.4, 76.8)), exact=exact)) == TORCH
    assert chosen(race((TORCH, exact), (BF16, times(9, 18, 36, 72)), exact=exact)) == BF16


def test_a_lower_precision_that_is_slower_at_a_size_it_would_use_loses_and_the_trial_says_where() -> None:
    exact = times(4, 8, 16, 32)
    made = race((ONNX, exact), (BF16, times(6, 8, 12, 20)), exact=exact)
    assert chosen(made) == ONNX
    assert outcomes(made)["openvino", "bf16"] == "slower than fp32 at batches of 1: 6 ms against 4 ms."


def test_a_size_beyond_the_preferred_one_does_not_count() -> None:
    exact = times(8, 16, 32, 64)
    made = race((TORCH, exact), (BF16, times(4, 7, 12, 90)), exact=exact)
    assert made.finding(1.0).preferred == 4
    assert chosen(made) == BF16


def test_what_was_asked_for_by_name_is_used_although_something_else_is_faster() -> None:
    made = race((TORCH, times(10, 20, 40, 80)), (ONNX, times(4, 8, 15, 29)), (VINO, times(5, 9, 16, 30)))
    assert chosen(made, "openvino") == VINO
    assert outcomes(made, "openvino")["torch", "fp32"].startswith("not asked for")
    assert made.finding(1.0, "openvino").refusal == ""


def test_what_was_asked_for_and_cannot_run_is_refused_with_the_reason_and_torch_serves() -> None:
    made = race((TORCH, times(10, 20, 40, 80)))
    made.out(INT8, "its outputs differ: largest difference 20% is above 8%.")
    finding = made.finding(1.0, "auto", "int8")
    assert (finding.runtime, finding.precision) == ("torch", "fp32")
    assert finding.refusal == (
        "int8 is not used. onnxruntime in int8: its outputs differ: largest difference 20% is above 8%."
    )
    assert made.finding(1.0, "tensorrt").refusal == "tensorrt is not used. It does not exist here."


def test_a_first_batch_of_more_than_twice_the_best_is_hopeless() -> None:
    made = Race(8, 60.0)
    assert not made.is_hopeless(1e9)  # nothing to compare it with
    made.ran(TORCH, parity(), times(10, 20), 0.02)
    assert not made.is_hopeless(0.02 * HOPELESS)
    assert made.is_hopeless(0.021 * HOPELESS)


def test_the_budget_is_respected() -> None:
    made = race(budget_s=10.0)
    assert made.has_time(9.9)
    assert not made.has_time(10.0)


def test_times_of_zero_divide_nothing() -> None:
    exact = times(0, 0)
    assert chosen(race((TORCH, exact), (BF16, times(0, 0)), exact=exact)) in (TORCH, BF16)


measured = st.lists(st.floats(1e-4, 1.0), min_size=len(SIZES), max_size=len(SIZES)).map(
    lambda seconds: tuple(zip(SIZES, seconds, strict=True))
)


@st.composite
def fields(draw: st.DrawFn) -> tuple[list[tuple[Candidate, BatchTimes]], BatchTimes]:
    """Draw candidates in fp32, some of lower precision, and what the best fp32 took beside those."""
    count = draw(st.integers(1, len(EXACT)))
    ran: list[tuple[Candidate, BatchTimes]] = [(one, draw(measured)) for one in EXACT[:count]]
    best = max(ran, key=lambda one: rate(one[1]))[1]
    lower = draw(st.lists(st.sampled_from(LOWER), unique=True))
    return ran + [(one, draw(measured)) for one in lower], best


def rate(of: BatchTimes) -> float:
    return Runner(TORCH, parity(), of, race((TORCH, of)).finding(0.0).preferred).rows_per_s


@given(fields())
def test_the_winner_is_never_slower_than_the_best_fp32_at_any_size_it_will_use(
    drawn: tuple[list[tuple[Candidate, BatchTimes]], BatchTimes],
) -> None:
    ran, best = drawn
    finding = race(*ran, exact=best).finding(1.0)
    check(finding)
    won = dict(finding.measured)
    if finding.precision == FP32:
        assert rate(finding.measured) * NOISE >= max(rate(of) for one, of in ran if one in EXACT)
    else:
        assert rate(finding.measured) * WORTH >= rate(best)
        assert all(won[rows] <= NOISE * exact_s for rows, exact_s in best if rows <= finding.preferred)


@given(fields(), st.randoms())
def test_the_order_decides_only_within_noise(
    drawn: tuple[list[tuple[Candidate, BatchTimes]], BatchTimes], shuffled: object
) -> None:
    ran, best = drawn
    first = race(*ran, exact=best).finding(1.0)
    others = list(ran)
    shuffled.shuffle(others)  # type: ignore[attr-defined]
    again = race(*others, exact=best).finding(1.0)
    assert rate(first.measured) * NOISE >= rate(again.measured)
    assert rate(again.measured) * NOISE >= rate(first.measured)


@given(fields(), st.sets(st.sampled_from((Candidate("compile", FP32), Candidate("torch", "bf16")))))
def test_everything_that_was_tried_is_in_the_trials_and_one_was_chosen(
    drawn: tuple[list[tuple[Candidate, BatchTimes]], BatchTimes], gone: set[Candidate]
) -> None:
    ran, best = drawn
    made = race(*ran, exact=best)
    for candidate in gone:
        made.out(candidate, "it failed: no.")
    trials = made.finding(1.0).trials
    assert sorted((one.runtime, one.precision) for one in trials) == sorted(
        (one.runtime, one.precision) for one in (*(candidate for candidate, _ in ran), *gone)
    )
    assert [trial.outcome for trial in trials].count("chosen.") == 1
    assert all(trial.outcome.endswith(".") for trial in trials)
    chosen_ones: Sequence[str] = [one.runtime for one in trials if one.outcome == "chosen."]
    assert chosen_ones == [made.finding(1.0).runtime]
