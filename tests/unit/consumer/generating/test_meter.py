"""What generations count as: token by token in time, whole ones by why they ended, and what others had begun."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from consumer.generation.engine import Finish, Sequence, Step
from consumer.generation_metrics import ABORT, ERROR, REASONS, GenerationMetrics, Occupancy
from consumer.models.generate.generator import Row
from consumer.pipeline.generating.meter import Meter
from consumer.pipeline.generating.resumption import Resumption
from consumer.pipeline.generating.running import Running
from shared.wire.frames import HANDED_OVER, Frame, pack_tokens
from shared.wire.generation import Generation
from tests.helpers import eventually
from tests.unit.consumer.generating.test_steps import Bench, taken_over
from tests.unit.consumer.parts import item

ALONE = {"model": "m"}


class Measured:
    """Generations of a model ``m``, stepped at times that a test says."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = GenerationMetrics(self.registry, "m")
        self.meter = Meter(self.metrics)

    def value(self, name: str, **labels: str) -> float | None:
        """What a scrape shows."""
        return self.registry.get_sample_value(f"headrace_{name}", {**ALONE, **labels})

    def step(self, now_s: float, *moved: tuple[Running, int]) -> None:
        """Bring generations so many tokens each."""
        for one, tokens in moved:
            one.take(Step(one.name, tuple(range(tokens)), ""), now_s)
        self.meter.stepped([one for one, tokens in moved if tokens], sum(tokens for _, tokens in moved), now_s)


def running(name: str, began_s: float, *, resumed_tokens: int = 0, traceparent: str | None = None) -> Running:
    made = item(name, arrived_s=began_s - 1.0)  # and 0.001 s in the stream before that
    made.request = msgspec.structs.replace(made.request, traceparent=traceparent)
    row = Row(Sequence(name, (1, 2, 3), 100), True, None)
    return Running(name, made, row, began_s, float("inf"), resumed_tokens, [], [])


def test_everything_is_shown_at_0_from_the_start() -> None:
    made = Measured()
    names = ("prompt_tokens", "generation_tokens", "frames", "resumed", "resumed_tokens", "cancelled_tokens")
    assert [made.value(f"{name}_total") for name in (*names, "engine_steps")] == [0.0] * 7
    assert [made.value("request_success_total", finished_reason=reason) for reason in REASONS] == [0.0] * 5
    gauges = ("num_requests_running", "kv_slots_used", "kv_slots", "kv_cache_usage_perc")
    assert [made.value(name) for name in gauges] == [0.0] * 4
    histograms = ("time_to_first_token", "request_prefill_time", "inter_token_latency", "e2e_request_latency")
    assert [made.value(f"{name}_seconds_count") for name in histograms] == [0.0] * 4


def test_the_first_token_is_timed_from_the_queue_and_from_the_start() -> None:
    made, one = Measured(), running("a", 100.0)
    made.step(100.5, (one, 1))
    assert made.value("time_to_first_token_seconds_sum") == pytest.approx(1.501)
    assert made.value("request_prefill_time_seconds_sum") == pytest.approx(0.5)
    assert made.value("inter_token_latency_seconds_count") == 0
    assert (made.value("prompt_tokens_total"), made.value("generation_tokens_total")) == (3, 1)


def test_gaps_are_those_of_each_generation_however_many_share_a_step() -> None:
    made = Measured()
    one, two, late = running("a", 0.0), running("b", 0.0), running("c", 0.0)
    made.step(10.0, (one, 1), (two, 1), (late, 0))
    made.step(10.03, (one, 1), (two, 1), (late, 1))
    made.step(10.23, (one, 1), (two, 0), (late, 1))
    made.step(10.43, (one, 1), (two, 1), (late, 1))
    assert made.value("engine_steps_total") == 4
    assert made.value("generation_tokens_total") == 10
    assert made.value("inter_token_latency_seconds_count") == 7  # the first token of each has none before it
    assert made.value("inter_token_latency_seconds_sum") == pytest.approx(2 * 0.03 + 4 * 0.2 + 0.4)
    assert made.value("inter_token_latency_seconds_bucket", le="0.05") == 2
    assert made.value("inter_token_latency_seconds_bucket", le="0.25") == 6


def test_several_tokens_of_one_step_count_as_their_mean() -> None:
    made, one = Measured(), running("a", 0.0)
    made.step(10.0, (one, 1))
    made.step(10.4, (one, 4))
    assert made.value("inter_token_latency_seconds_count") == 1
    assert made.value("inter_token_latency_seconds_sum") == pytest.approx(0.1)


def test_one_that_goes_on_has_had_its_first_token() -> None:
    made, one = Measured(), running("a", 100.0, resumed_tokens=7)
    made.meter.resumed(Resumption(seq=3, attempt=1, tokens=[1] * 7))
    made.step(101.0, (one, 1))
    assert (made.value("resumed_total"), made.value("resumed_tokens_total")) == (1, 7)
    assert made.value("time_to_first_token_seconds_count") == made.value("prompt_tokens_total") == 0
    assert made.value("request_prefill_time_seconds_sum") == pytest.approx(1.0)


def test_an_end_is_counted_by_its_reason_and_tokens_for_nobody_apart() -> None:
    made = Measured()
    whole, gone, failed = running("a", 10.0), running("b", 10.0), running("c", 10.0)
    made.step(11.0, (whole, 4), (gone, 3), (failed, 2))
    made.meter.ended(whole, Finish.STOP.value, 12.0)
    made.meter.ended(gone, ABORT, 12.0)
    made.meter.ended(failed, ERROR, 12.0)
    ended = {reason: made.value("request_success_total", finished_reason=reason) for reason in REASONS}
    assert ended == {"stop": 1, "length": 0, "deadline": 0, "abort": 1, "error": 1}
    assert made.value("cancelled_tokens_total") == 3
    assert made.value("e2e_request_latency_seconds_count") == 1
    assert made.value("e2e_request_latency_seconds_sum") == pytest.approx(3.001)
    assert (made.value("request_prompt_tokens_sum"), made.value("request_generation_tokens_sum")) == (3, 4)


def test_a_trace_is_the_exemplar_of_its_first_token() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    made = Measured()
    made.step(1.0, (running("a", 0.0, traceparent=f"00-{trace}-00f067aa0ba902b7-01"), 1))
    [exemplar] = made.metrics.first_token.exemplars.values()
    assert exemplar.labels == {"trace_id": trace}


def test_slots_and_the_rate_of_the_last_seconds() -> None:
    made, one = Measured(), running("a", 0.0)
    made.metrics.occupancy = lambda: Occupancy(3, 4, 16)
    assert made.value("kv_cache_usage_perc") == 0.25
    assert made.metrics.recent(0.0) == (3, 16, 0.0)
    made.step(0.5, (one, 50))
    assert made.metrics.recent(1.0) == (3, 16, 50.0)
    for second in range(2, 30):
        assert made.metrics.recent(float(second)).tokens_per_s >= 0
    assert made.metrics.recent(30.0).tokens_per_s == 0.0


# --- through the executor


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(slots=4)
    yield made
    made.close()


def value(bench: Bench, name: str, **labels: str) -> float:
    found = bench.context.metrics.registry.get_sample_value(f"headrace_{name}", {"model": "toy", **labels})
    assert found is not None, name
    return found


def test_the_executor_counts_what_it_runs(bench: Bench) -> None:
    bench.ask("a", Generation(prompt="abc", max_tokens=4, temperature=0, stream=True))
    bench.gate.let(2)
    eventually(lambda: bench.tokens("a") == 2)
    assert [value(bench, name) for name in ("num_requests_running", "kv_slots_used", "kv_slots")] == [1, 1, 4]
    bench.gate.open()
    bench.reply("a")
    eventually(lambda: value(bench, "kv_slots_used") == 0)
    assert value(bench, "request_success_total", finished_reason="length") == 1
    assert (value(bench, "prompt_tokens_total"), value(bench, "generation_tokens_total")) == (3, 4)
    assert value(bench, "engine_steps_total") == 4
    assert value(bench, "inter_token_latency_seconds_count") == 3
    assert value(bench, "frames_total") == len(bench.frames("a"))


def test_what_is_cancelled_is_no_success_and_its_tokens_are_counted(bench: Bench) -> None:
    entry = bench.ask("a", Generation(prompt="a", max_tokens=4000, stream=True))
    bench.gate.let(2)
    eventually(lambda: bench.tokens("a") == 2)
    bench.lane.cancel(entry)
    bench.context.cancellations.add([("default", entry)], time.monotonic())
    bench.gate.let(2)
    eventually(lambda: value(bench, "request_success_total", finished_reason="abort") == 1)
    assert 2 <= value(bench, "cancelled_tokens_total") <= 4
    assert value(bench, "e2e_request_latency_seconds_count") == 0


def test_what_was_handed_over_is_resumed_elsewhere_and_did_not_end_here() -> None:
    frames = [
        Frame("a", 0, 1, pack_tokens(b"abcab"), "abcab"),
        Frame("a", 1, 1, b"", "", HANDED_OVER),
    ]
    bench = taken_over(frames)
    try:
        bench.gate.open()
        bench.reply("a")
        assert (value(bench, "resumed_total"), value(bench, "resumed_tokens_total")) == (1, 5)
        assert (value(bench, "generation_tokens_total"), value(bench, "prompt_tokens_total")) == (7, 0)
        assert sum(value(bench, "request_success_total", finished_reason=reason) for reason in REASONS) == 1
    finally:
        bench.close()


def test_what_a_stopping_consumer_hands_over_has_not_ended(bench: Bench) -> None:
    bench.ask("a", Generation(prompt="a", max_tokens=4000, stream=True))
    bench.gate.let(2)
    eventually(lambda: bench.tokens("a") == 2)
    bench.close()
    assert sum(value(bench, "request_success_total", finished_reason=reason) for reason in REASONS) == 0
    assert value(bench, "cancelled_tokens_total") == 0


def test_a_full_engine_shows_what_waits(bench: Bench) -> None:
    bench.context.metrics.watch(bench.stream.depth, lambda: 0.0, lambda: None, lambda: 0)
    for name in "abcdef":
        bench.ask(name, Generation(prompt=name, max_tokens=50, stream=True))
    bench.gate.let(1)
    eventually(lambda: value(bench, "num_requests_running") == 4)
    eventually(lambda: value(bench, "num_requests_waiting") == 2)
    assert value(bench, "kv_cache_usage_perc") == 1.0
