"""What a consumer exports of the model that it runs."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from consumer.events import Parity
from consumer.metrics import ConsumerMetrics
from shared.state.cards import Card, Tuning
from tests.contract.lanes import card

EXACT = Parity("fp32", 0, 1.0, 0.0, 1.0, True, "")


def model(runtime: str, tuning: Tuning | None) -> Card:
    return msgspec.structs.replace(card("m"), runtime=runtime, tuning=tuning)


def info(runtime: str) -> dict[str, str]:
    return {"model": "m", "version": "1", "runtime": runtime, "precision": "fp32", "device": "cpu"}


@pytest.mark.parametrize(("state", "value"), [("searching", 0.0), ("plain", 0.0), ("refused", 0.0), ("tuned", 1.0)])
def test_a_model_says_whether_it_runs_in_what_was_found(state: str, value: float) -> None:
    registry = CollectorRegistry()
    ConsumerMetrics(registry, "m").describe(model("torch", Tuning(state)), EXACT)
    assert registry.get_sample_value("headrace_model_info", info("torch")) == 1
    assert registry.get_sample_value("headrace_model_tuned", {"model": "m"}) == value


def test_once_another_runtime_runs_the_old_one_is_exported_no_more() -> None:
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(registry, "m")
    metrics.describe(model("torch", Tuning("searching")), EXACT)
    metrics.describe(model("onnxruntime", Tuning("tuned")), EXACT)
    assert registry.get_sample_value("headrace_model_info", info("onnxruntime")) == 1
    assert registry.get_sample_value("headrace_model_info", info("torch")) is None
    assert registry.get_sample_value("headrace_model_tuned", {"model": "m"}) == 1


def test_where_there_is_no_choice_nothing_is_said_of_one() -> None:
    registry = CollectorRegistry()
    ConsumerMetrics(registry, "m").describe(model("", None), EXACT)
    assert registry.get_sample_value("headrace_model_info", info("")) == 1
    assert registry.get_sample_value("headrace_model_tuned", {"model": "m"}) is None
