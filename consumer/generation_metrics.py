"""What a consumer exports of generations, in the names that the field uses. Counted in bulk: a step at a time.

Each number has one writing thread, so no lock is taken, and what a scrape needs is put together when it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.metrics.histograms import (
    FIRST_TOKEN_BUCKETS_S,
    GENERATION_BUCKETS_S,
    TOKEN_COUNT_BUCKETS,
    TOKEN_GAP_BUCKETS_S,
    Histogram,
    Series,
)
from shared.metrics.rates import RecentRate

STOP: Final = "stop"
LENGTH: Final = "length"
DEADLINE: Final = "deadline"
ABORT: Final = "abort"
ERROR: Final = "error"
REASONS: Final = (STOP, LENGTH, DEADLINE, ABORT, ERROR)
"""Why a generation ended: the model or a stop text ended it, its tokens or its time were used up, nobody waits for it
here any more, or it failed."""

RECENT_S: Final = 10.0


class Occupancy(NamedTuple):
    """What is in an engine: sequences that run, and slots that are taken and that there are."""

    running: int
    used: int
    slots: int


EMPTY: Final = Occupancy(0, 0, 0)


class Recent(NamedTuple):
    """What a heartbeat says of generations."""

    running: int
    slots: int
    tokens_per_s: float


class GenerationMetrics(Collector):
    """The metrics of generations of one consumer, whichever engines it runs one after the other.

    Attributes:
        first_token: seconds from the queue to the first token, one value per generation.
        prefill: seconds from the start in the engine to the first token of an attempt.
        gap: seconds between two tokens of a generation.
        whole: seconds from the queue to the last token.
        prompts, lengths: tokens of prompts, and of what was generated.
        steps: of the engine.
        prompt_tokens, generation_tokens: read for the first time, and generated.
        frames: that were written.
        resumed, resumed_tokens: generations that others had begun, and the tokens that these had then.
        cancelled_tokens: generated for nobody.
        finished: generations by why they ended.
        occupancy: asked at each scrape, on its thread.
    """

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self._model = model

        def series(name: str, help_text: str, bounds: tuple[float, ...]) -> Series:
            return Histogram(f"headrace_{name}", help_text, bounds, registry, ("model",)).labels(model)

        first, gaps, whole = FIRST_TOKEN_BUCKETS_S, TOKEN_GAP_BUCKETS_S, GENERATION_BUCKETS_S
        self.first_token = series("time_to_first_token_seconds", "From the queue to the first token", first)
        self.prefill = series("request_prefill_time_seconds", "From the start in the engine to the first token", first)
        self.gap = series("inter_token_latency_seconds", "Between two tokens of a generation", gaps)
        self.whole = series("e2e_request_latency_seconds", "From the queue to the last token", whole)
        self.prompts = series("request_prompt_tokens", "Tokens of a prompt", TOKEN_COUNT_BUCKETS)
        self.lengths = series("request_generation_tokens", "Tokens generated for a request", TOKEN_COUNT_BUCKETS)
        self.steps = self.prompt_tokens = self.generation_tokens = self.frames = 0
        self.resumed = self.resumed_tokens = self.cancelled_tokens = 0
        self.finished = dict.fromkeys(REASONS, 0)
        self.occupancy: Callable[[], Occupancy] = lambda: EMPTY
        self._rate = RecentRate(RECENT_S)
        registry.register(self)

    def wrote(self, frames: int) -> None:
        """Count frames; for the thread that writes them."""
        self.frames += frames

    def recent(self, now_s: float) -> Recent:
        """Return what a heartbeat says; for its thread."""
        occupancy = self.occupancy()
        return Recent(occupancy.running, occupancy.slots, self._rate.per_s(self.generation_tokens, now_s))

    def collect(self) -> Iterator[Metric]:
        """Yield the counters and gauges, as a registry asks for it."""
        for name, help_text, value in (
            ("engine_steps", "Steps of the engine", self.steps),
            ("prompt_tokens", "Tokens of prompts that were read", self.prompt_tokens),
            ("generation_tokens", "Tokens that were generated", self.generation_tokens),
            ("frames", "Frames written to records of generations", self.frames),
            ("resumed", "Generations taken over from a consumer that had begun them", self.resumed),
            ("resumed_tokens", "Tokens that such generations had already", self.resumed_tokens),
            ("cancelled_tokens", "Tokens generated for requests that were aborted", self.cancelled_tokens),
        ):
            counter = CounterMetricFamily(f"headrace_{name}", help_text, labels=("model",))
            counter.add_metric((self._model,), value)
            yield counter
        finished = CounterMetricFamily(
            "headrace_request_success", "Generations by why they ended", labels=("model", "finished_reason")
        )
        for reason, count in self.finished.items():
            finished.add_metric((self._model, reason), count)
        yield finished
        running, used, slots = self.occupancy()
        for name, help_text, now in (
            ("num_requests_running", "Generations in the engine", running),
            ("kv_slots_used", "Slots of the engine's cache that are taken", used),
            ("kv_slots", "Slots of the engine's cache", slots),
            ("kv_cache_usage_perc", "Share of the slots that is taken, up to 1", used / slots if slots else 0.0),
        ):
            gauge = GaugeMetricFamily(f"headrace_{name}", help_text, labels=("model",))
            gauge.add_metric((self._model,), now)
            yield gauge
