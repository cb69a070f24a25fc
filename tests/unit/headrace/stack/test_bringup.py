"""When the start of a stack is over, and what it came to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.stack.bringup import BringUp, Report


def test_it_waits_for_every_model_to_answer_or_to_lose_its_last_consumer() -> None:
    bring_up = BringUp({"a": ["a1"], "b": ["b1", "b2"]}, ["a", "b"])
    assert not bring_up.is_settled
    bring_up.answered("a")
    assert bring_up.died("b", "b1", "no") == 1
    assert not bring_up.is_settled
    assert bring_up.died("b", "b2", "no weights") == 0
    assert bring_up.is_settled
    assert bring_up.report() == Report(("a",), {"b": "no weights"})


def test_a_consumer_that_dies_twice_counts_once() -> None:
    bring_up = BringUp({"b": ["b1", "b2"]}, ["b"])
    assert bring_up.died("b", "b1", "no") == 1
    assert bring_up.died("b", "b1", "no") == 1
    assert not bring_up.is_settled


def test_what_happens_after_a_model_was_ready_is_another_story() -> None:
    bring_up = BringUp({"a": ["a1"]}, ["a"])
    bring_up.answered("a")
    assert bring_up.died("a", "a1", "killed") is None
    bring_up.did_not_answer("a", "late")
    assert bring_up.report() == Report(("a",), {})


def test_nobody_waits_for_models_that_nobody_can_ask() -> None:
    assert BringUp({"a": ["a1"]}, []).is_settled


MODELS = {"a": ["a1"], "b": ["b1", "b2"], "c": ["c1", "c2", "c3"]}
steps = st.tuples(
    st.sampled_from(["died", "answered", "did not answer"]), st.sampled_from(sorted(MODELS)), st.integers(0, 2)
)


@given(st.lists(steps, max_size=30))
def test_every_model_is_in_the_report_once_whatever_happens(happened: list[tuple[str, str, int]]) -> None:
    bring_up = BringUp(MODELS, MODELS)
    for step, model, number in happened:
        match step:
            case "died":
                bring_up.died(model, MODELS[model][number % len(MODELS[model])], "why")
            case "answered":
                bring_up.answered(model)
            case _:
                bring_up.did_not_answer(model, "why")
    report = bring_up.report()
    assert sorted([*report.ready, *report.failed, *report.loading]) == sorted(MODELS)
    assert bring_up.is_settled == (not report.loading)
    assert bring_up.is_late == (0 < len(report.loading) < len(MODELS))
    answered = {model for step, model, _ in happened if step == "answered"}
    assert bring_up.is_settled == (answered | set(report.failed) == set(MODELS))
