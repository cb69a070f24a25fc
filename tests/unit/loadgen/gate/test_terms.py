"""The gate asks whether the load that was sent is the one its budgets hold for, and says when that load is changed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loadgen.budgets import loosened, parse_budgets
from loadgen.gate.run_gate import judge
from loadgen.gate.terms import Hashes
from loadgen.gate.verdict import Verdict
from loadgen.results.comparefile import CompareFile
from loadgen.results.runfile import PayloadInfo, RunFile
from tests.unit.loadgen.comparisons import comparison_of, noisy_pairs
from tests.unit.loadgen.runs import HASH, good_run

LOAD = "[models.imagenet]\nmean_ms = 250\nrate_per_s = 50\n"
BUDGETS = parse_budgets(LOAD, "b")
GOOD = comparison_of(noisy_pairs(10, 1.0, 0.01, 1))


def configured(**changes: Any) -> RunFile:
    run = good_run()
    return msgspec.structs.replace(run, configuration=msgspec.structs.replace(run.configuration, **changes))


def planned(**changes: Any) -> CompareFile:
    return msgspec.structs.replace(GOOD, plan=msgspec.structs.replace(GOOD.plan, **{"rate_per_s": 50.0, **changes}))


def checks_named(verdict: Verdict, name: str) -> list[bool]:
    return [check.passed for check in verdict.checks if check.name == name]


@pytest.mark.parametrize(
    ("arrivals", "burstiness", "code"),
    [("poisson", None, 0), ("constant", None, 20), ("gamma", 1.0, 0), ("gamma", 4.0, 0), ("gamma", 0.5, 20)],
)
def test_arrivals_must_not_be_calmer_than_the_budgets_mean_them(
    arrivals: str, burstiness: float | None, code: int
) -> None:
    verdict = judge(BUDGETS, configured(arrivals=arrivals, burstiness=burstiness))
    assert verdict.exit_code == code
    assert checks_named(verdict, "arrivals") == [code == 0]
    if code:
        assert verdict.reasons[0].startswith(
            "The budgets hold for Poisson arrivals or more irregular ones, and the run's"
        )
    without_a_rate = parse_budgets("[models.imagenet]\nmean_ms = 250", "b")
    assert judge(without_a_rate, configured(arrivals=arrivals, burstiness=burstiness)).exit_code == 0


OTHER = PayloadInfo("tiny.png", "image/png", 68, "11")
CAT = PayloadInfo("cat.jpg", "image/jpeg", 100, HASH)


@pytest.mark.parametrize(
    ("sent", "named", "says"),
    [
        ([CAT], (HASH,), None),
        ([CAT, OTHER], ("11", HASH), None),
        ([CAT], None, None),  # the budgets name none
        ([], (HASH,), None),  # the result has none
        ([OTHER], (HASH,), "sent tiny.png, which is not what the budgets name as payload."),
        ([CAT, OTHER], (HASH,), "sent tiny.png, which is not"),
        ([CAT], (HASH, "11"), "did not send all that the budgets name as payload."),
        ([CAT, CAT], (HASH, "11"), "did not send all that"),  # one of them twice
        ([CAT], "Cannot read the payload cat.jpg: No such file or directory.", "Cannot read the payload cat.jpg"),
    ],
)
def test_the_payload_must_be_the_one_that_the_budgets_name(
    sent: list[PayloadInfo], named: Hashes, says: str | None
) -> None:
    run = judge(BUDGETS, configured(payloads=sent), payload=named)
    both = judge(BUDGETS, configured(payloads=[]), planned(payloads=sent), payload=named)
    for verdict in (run, both):
        assert verdict.exit_code == (0 if says is None else 20)
        if says is not None:
            assert len(verdict.reasons) == 1
            assert says in verdict.reasons[0]


@pytest.mark.parametrize(
    "change",
    [
        {"rate_per_s": 25.0},
        {"arrivals": "constant"},
        {"arrivals": "gamma"},  # a comparison's file does not say how bursty
        {"window_s": 1.0},
        {"offline_requests": 32},
        {"concurrency": 1},
    ],
)
def test_the_windows_of_a_comparison_must_be_those_that_the_budgets_plan(change: dict[str, Any]) -> None:
    assert judge(BUDGETS, good_run(), planned()).exit_code == 0
    verdict = judge(BUDGETS, good_run(), planned(**change))
    assert verdict.exit_code == 20
    (reason,) = verdict.reasons
    assert reason.startswith("The windows of the comparison were of ")
    assert reason.endswith("; the budgets plan 3 s at 50/s poisson, then 64, 16 at a time.")


def test_the_windows_may_have_a_rate_of_their_own() -> None:
    own = parse_budgets(f"{LOAD}window_rate_per_s = 80\n", "b")
    assert judge(own, good_run(), planned(rate_per_s=80.0)).exit_code == 0
    assert judge(own, good_run(), planned(rate_per_s=50.0)).exit_code == 20
    none = parse_budgets("[models.imagenet]\nmean_ms = 250", "b")
    assert judge(none, good_run(), planned(rate_per_s=7.0)).exit_code == 0


FULL = """\
[models.a]
mean_ms = 10
duration_s = 50
payload = ["cat.jpg", "dog.jpg"]
window_s = 3
window_rate_per_s = 20
offline_requests = 64
concurrency = 16

[gate]
pairs = 10
most_pairs = 20
"""


@pytest.mark.parametrize(
    ("was", "is_now", "says"),
    [
        ('["cat.jpg", "dog.jpg"]', '"pixel.png"', "a: the payload was changed from cat.jpg, dog.jpg to pixel.png."),
        ('payload = ["cat.jpg", "dog.jpg"]\n', "", "a: the payload was changed from cat.jpg, dog.jpg to any."),
        ("duration_s = 50", "duration_s = 9", "a: duration_s was lowered from 50 to 9."),
        ("window_s = 3", "window_s = 1", "a: window_s was lowered from 3 to 1."),
        ("window_rate_per_s = 20", "window_rate_per_s = 5", "a: window_rate_per_s was changed from 20 to 5."),
        ("window_rate_per_s = 20\n", "", "a: window_rate_per_s was changed from 20 to nothing."),
        ("offline_requests = 64", "offline_requests = 2", "a: offline_requests was lowered from 64 to 2."),
        ("concurrency = 16", "concurrency = 1", "a: concurrency was changed from 16 to 1."),
        ("\npairs = 10", "\npairs = 9", "gate: pairs was loosened from 10 to 9."),
        ("most_pairs = 20", "most_pairs = 40", "gate: most_pairs was loosened from 20 to 40."),
        ("duration_s = 50", "duration_s = 90", None),
        ("window_s = 3", "window_s = 5", None),
        ("offline_requests = 64", "offline_requests = 128", None),
        ("\npairs = 10", "\npairs = 12", None),
        ('["cat.jpg", "dog.jpg"]', '["cat.jpg", "dog.jpg"]', None),
    ],
)
def test_a_change_of_the_load_is_named(was: str, is_now: str, says: str | None) -> None:
    assert was in FULL
    found = loosened(parse_budgets(FULL, "b"), parse_budgets(FULL.replace(was, is_now), "b"))
    assert found == (() if says is None else (says,))


def test_base_budgets_that_cannot_be_read_are_a_warning() -> None:
    """A change that removes a key which the base's budgets use would hide every loosening."""
    verdict = judge(BUDGETS, good_run(), base_budgets="b is not a budgets file: unknown field `p99_ms`.")
    assert verdict.exit_code == 0
    assert verdict.warnings == (
        "Nobody saw whether budgets were loosened: b is not a budgets file: unknown field `p99_ms`.",
    )
