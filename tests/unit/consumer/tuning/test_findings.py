"""What is said of a finding: one sentence where batches gain little, and a table for the log."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.tuning.findings import LITTLE, BatchTimes, Finding, batching_sentence, check, table
from shared.state.cards import Trial
from tests.unit.consumer.tuning.test_store import FINDING


def test_batches_that_gain_little_are_a_sentence() -> None:
    assert batching_sentence(((1, 0.01), (8, 0.08))) == (
        "Batches gain little here: 100 rows/s at 1 rows, 100 one by one; one row fills the processor already."
    )
    assert batching_sentence(((1, 0.01), (8, 0.04))) == ""


@pytest.mark.parametrize("measured", [(), ((8, 0.1),), ((1, 0.1),), ((1, 0.0), (2, 0.0))])
def test_of_what_was_not_measured_nothing_is_said(measured: BatchTimes) -> None:
    assert batching_sentence(measured) == ""


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 10)), max_size=8))
def test_the_sentence_is_there_exactly_where_the_gain_is_small(drawn: list[tuple[int, float]]) -> None:
    measured = tuple(sorted(dict(drawn).items()))
    rates = {rows: rows / run_s for rows, run_s in measured}
    is_little = 1 in rates and len(rates) > 1 and max(rates.values()) / rates[1] < LITTLE
    assert bool(batching_sentence(measured)) == is_little


def test_the_table_has_a_line_for_each_trial() -> None:
    trials = (Trial("torch", "fp32", "not faster.", 123.4, 16), Trial("onnxruntime", "int8", "its outputs differ."))
    finding = msgspec.structs.replace(FINDING, trials=trials)
    assert table(finding) == [
        "RUNTIME      PRECISION  ROWS/S  BATCH  OUTCOME",
        "torch        fp32       123     16     not faster.",
        "onnxruntime  int8       -       -      its outputs differ.",
    ]


def test_a_finding_survives_being_kept() -> None:
    kept = msgspec.json.decode(msgspec.json.encode(FINDING), type=Finding)
    check(kept)
    assert kept == FINDING
    assert kept.tuning.state == "tuned"
    refused = msgspec.structs.replace(FINDING, refusal="openvino is not used. It is not installed.")
    assert (refused.tuning.state, refused.tuning.reason) == ("refused", "openvino is not used. It is not installed.")
