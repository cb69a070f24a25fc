"""What the command says has come of a wish, and the table it shows."""

from __future__ import annotations

import pytest

from headrace.operate.precision import judge
from headrace.table import table
from shared.state.desired_state import DesiredPrecision, WorkerState

WISH = DesiredPrecision("bf16", "w2")


def state(progress: str, token: str = "w2") -> WorkerState:
    return WorkerState(token=token, progress=progress)


@pytest.mark.parametrize(
    ("progresses", "outcome"),
    [
        ([], "stored"),
        (["done"], "done"),
        (["done", "switching"], "waiting"),
        (["refused", "waiting"], "waiting"),
        (["refused", "done"], "refused"),
        (["", "done"], "waiting"),
        (["what a later version says", "done"], "waiting"),
    ],
)
def test_it_is_over_when_all_have_done_or_refused_it(progresses: list[str], outcome: str) -> None:
    found = {f"worker-{number}": state(progress) for number, progress in enumerate(progresses)}
    assert judge(WISH, found) == outcome


def test_what_became_of_an_earlier_wish_does_not_count() -> None:
    assert judge(WISH, {"one": state("done"), "two": state("done", "w1")}) == "waiting"


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    shown = table(("A", "LONGER"), [("long cell", "x"), ("y", "a\x1b[31m\nb")])
    assert shown.splitlines() == ["A          LONGER", "long cell  x", "y          a?[31m?b"]
