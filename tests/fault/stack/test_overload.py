"""More than the consumers can do: too many rows for the memory, and five times too many requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from loadgen.results.runfile import RunFile
from tests.e2e.stack import Response, Stack
from tests.fault.paced import ROW_BYTES, models_file
from tests.fault.stack.open_load import answered_per_s, latencies_ms, load, percentile_ms
from tests.helpers import first

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

BATCH_MS, MAX_BATCH = 40.0, 8
ROW = bytes(ROW_BYTES)


def runs(folder: Path) -> list[int]:
    """The rows of every run that was tried."""
    return [int(line) for noted in folder.glob("runs-*") for line in noted.read_text().split()]


def rows_of(count: int) -> tuple[bytes, list[float]]:
    """A body of so many rows, and what is to be answered."""
    x = np.arange(4 * count, dtype="<f4")
    return x.tobytes(), (2 * x + 1).tolist()


@pytest.mark.parametrize(("room", "found_at", "working"), first(1, [(3, 4, 2), (20, 32, 16)]))
def test_row_20_a_batch_too_large_for_the_memory_is_halved_and_the_size_remembered(
    valkey_url: str, tmp_path: Path, model_name: str, room: int, found_at: int, working: int
) -> None:
    """Warming up, with 1, 2, 4, … rows, is the first to find out."""
    models = models_file(tmp_path, model_name, room=room)
    with Stack(valkey_url, models, MAX_BATCH="32") as stack:
        stack.start_front_end()
        consumer = stack.start_consumer(model_name)
        consumer.until(f"Memory ran out at {found_at} rows")
        stack.wait(model_name)
        before = len(runs(tmp_path))
        body, expected = rows_of(32)
        for _ in range(2):
            answer = stack.predict(model_name, body)
            assert (answer.status, answer.body["outputs"][0]["data"]) == (200, expected)
        assert runs(tmp_path)[before:] == [working] * (2 * 32 // working)
        assert f'headrace_batch_working_rows{{model="{model_name}"}} {working:.1f}' in stack.metrics(consumer)


def test_row_20_a_single_row_that_never_fits_errs_alone(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    models = models_file(tmp_path, model_name, huge=True)
    with Stack(valkey_url, models, MAX_BATCH="32") as stack:
        stack.start_front_end()
        consumer = stack.start_consumer(model_name)
        stack.wait(model_name)
        body, expected = rows_of(4)
        huge = np.full(4, np.finfo(np.float32).max, "<f4").tobytes()
        refused = stack.predict(model_name, huge)
        assert (refused.status, refused.body["error"]["code"]) == (500, "model_error")
        assert stack.predict(model_name, body + huge).status == 500
        answer = stack.predict(model_name, body)
        assert (answer.status, answer.body["outputs"][0]["data"]) == (200, expected)
        assert f'headrace_batch_working_rows{{model="{model_name}"}} 32.0' in stack.metrics(consumer)


@dataclass(frozen=True, slots=True)
class Overload:
    """A flood, and what is to come of it.

    Attributes:
        target_ms: the longest wait that is promised.
        goodput: share of the capacity; 0 where other tests take turns with this one on the same cores, since the two
            are not measured at the same time.
        normal_after_s: when all is to be as usual again.
    """

    flood_s: int
    target_ms: int
    goodput: float
    normal_after_s: int

    @property
    def is_measured(self) -> bool:
        """Whether the figures are held against their bounds: only where nothing else runs on the same cores."""
        return self.goodput > 0


@contextmanager
def asking(stack: Stack, model: str) -> Iterator[list[Response]]:
    """Ask again and again meanwhile, one after the other; gives the answers."""
    over, answers = threading.Event(), list[Response]()

    def ask() -> None:
        while not over.wait(0.02):
            answers.append(stack.predict(model, ROW))

    # Several, since one that is let in waits for most of a short flood.
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Overload(4, 4000, 0.0, 1), id="short"),
        pytest.param(Overload(60, 4000, 0.95, 5), id="long", marks=[pytest.mark.soak, pytest.mark.timeout(240)]),
    ],
)
def test_row_23_five_times_more_load_than_capacity(
    valkey_url: str, tmp_path: Path, model_name: str, plan: Overload
) -> None:
    """The target of an admitted request is HEADRACE_MAX_WAIT_MS: that is what the front end lets it in for."""
    models = models_file(tmp_path, model_name, batch_ms=BATCH_MS)
    settings = {"MAX_BATCH": str(MAX_BATCH), "MAX_WAIT_MS": str(plan.target_ms)}
    with Stack(valkey_url, models, **settings) as stack:
        stack.start_front_end()
        stack.start_consumer(model_name)
        stack.wait(model_name)

        def send(name: str, *options: str) -> RunFile:
            return load(stack.url, model_name, ROW, tmp_path / name, *options)

        capacity = answered_per_s(send("capacity", "--concurrency", str(4 * MAX_BATCH), "--duration", "3s"))
        with asking(stack, model_name) as single:
            many = ("--rate", f"{5 * capacity:.1f}", "--max-in-flight", "2048", "--warmup", "1s")
            flood = send("flood", *many, "--duration", f"{plan.flood_s}s")
        later = ("--rate", f"{capacity / 2:.1f}", "--warmup", f"{plan.normal_after_s}s", "--duration", "3s")
        after = send("after", *later)

    counts, goodput = flood.counts, answered_per_s(flood)
    admitted_ms, refused_ms = (
        percentile_ms(latencies_ms(flood, 200), 0.99),
        percentile_ms(latencies_ms(flood, 429), 0.5),
    )
    print(
        f"capacity {capacity:.0f}/s, goodput {goodput / capacity:.1%}, p99 of the admitted {admitted_ms:.0f} ms of "
        f"{plan.target_ms} ms, median of the refused {refused_ms:.2f} ms, p99 afterwards "
        f"{percentile_ms(latencies_ms(after, 200), 0.99):.0f} ms"
    )
    assert {(found.status, found.code) for found in counts.http} <= {(429, "wait_too_long"), (429, "lane_full")}
    assert counts.ok + sum(found.count for found in counts.http) == counts.scheduled
    refused = [answer for answer in single if answer.status != 200]
    assert {answer.status for answer in refused} == {429}
    waits_s = [int(answer.headers["retry-after"]) for answer in refused]
    assert 1 <= min(waits_s) <= max(waits_s) <= plan.target_ms / 1000
    if not plan.is_measured:
        return
    # The lane is at most 0.8 of the target long, and is to be emptied to half of that: 1.6 s, and never just 1.
    assert max(waits_s) >= 2
    assert admitted_ms <= plan.target_ms
    assert refused_ms <= 10
    assert goodput >= plan.goodput * capacity
    assert after.counts.ok == after.counts.scheduled
    assert percentile_ms(latencies_ms(after, 200), 0.99) <= plan.target_ms / 2
