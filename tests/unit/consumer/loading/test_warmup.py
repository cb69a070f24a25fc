"""Calibration: which sizes are run and for how long, what is chosen, and what survives until the next start."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batching.buckets import buckets
from consumer.batching.load import PaddedTokenBudget, TokenBudget
from consumer.config import ConsumerConfig
from consumer.loading.start_cache import StartCache
from consumer.loading.warmup import Calibration, calibrate, calibrate_briefly, checked, told
from consumer.models.base import Description
from consumer.models.echo import Echo
from consumer.models.families import build
from consumer.pipeline.policies import make_batcher
from consumer.tuning.measuring import BatchTimes, measure, preferred_rows
from shared.model_config import ModelConfig
from shared.settings import Settings
from tests.unit.consumer.parts import Toy

SIZES = (1, 2, 4, 8, 16, 32)


class Device:
    """A device on a virtual clock: each run takes what ``run_s`` says, the first of a size three times that."""

    def __init__(self, per_row_s: float, fixed_s: float, first: float = 3.0) -> None:
        self.now_s = 0.0
        self.runs: list[int] = []
        self._per_row_s, self._fixed_s, self._first = per_row_s, fixed_s, first

    def run(self, size: int) -> None:
        run_s = self._per_row_s * size + self._fixed_s
        self.now_s += run_s if size in self.runs else run_s * self._first
        self.runs.append(size)

    def measure(self, sizes: tuple[int, ...] = SIZES, budget_s: float = 1.0) -> BatchTimes:
        return measure(self.run, sizes, budget_s, clock=lambda: self.now_s)


def config(folder: Path, *, policy: str = "adaptive", max_batch: int = 8, version: str = "1") -> ConsumerConfig:
    settings = Settings(data_dir=str(folder))
    model = ModelConfig(family="python", entry="any:thing", version=version)
    return ConsumerConfig("toy", model, settings, "w", "fp32", max_batch, 5.0, policy, 0)


def test_each_size_is_measured_warm() -> None:
    device = Device(0.0001, 0.001)
    assert dict(device.measure()) == pytest.approx({size: 0.0001 * size + 0.001 for size in SIZES})
    assert device.runs[:6] == list(SIZES)


def test_a_size_can_be_measured_right_after_itself() -> None:
    """Some libraries prepare anew when the size changes; under a steady load it does not."""
    device = Device(0.0001, 0.001)

    def run(size: int) -> None:
        device.now_s += 0.005 if device.runs and device.runs[-1] != size else 0.0
        device.run(size)

    found = measure(run, SIZES, 1.0, clock=lambda: device.now_s, prepare=run)
    assert dict(found) == pytest.approx({size: 0.0001 * size + 0.001 for size in SIZES})
    assert len(device.runs) % 2 == 0
    assert device.runs[::2] == device.runs[1::2]
    without = measure(run, SIZES, 1.0, clock=lambda: device.now_s)
    assert all(run_s > 0.005 for _, run_s in without)


def test_preparing_counts_towards_the_budget() -> None:
    device = Device(0.01, 0.01, first=1.0)
    measure(device.run, SIZES, 1.0, clock=lambda: device.now_s, prepare=device.run)
    warm_s = 2 * sum(0.01 * size + 0.01 for size in SIZES)
    assert warm_s < device.now_s <= warm_s + 1.0


def test_the_time_is_bounded() -> None:
    device = Device(0.01, 0.01, first=1.0)
    assert device.measure(budget_s=1.0) != ()
    warm_s = sum(0.01 * size + 0.01 for size in SIZES)
    assert warm_s < device.now_s <= warm_s + 1.0


def test_warming_up_comes_first_whatever_it_takes() -> None:
    device = Device(1.0, 0.0, first=1.0)
    assert device.measure(budget_s=0.5) == ()
    assert device.runs == list(SIZES)


def test_large_sizes_are_left_out_when_there_is_no_time() -> None:
    device = Device(0.001, 0.0, first=1.0)
    measured = device.measure((*SIZES, 64, 4096), budget_s=1.0)
    assert [rows for rows, _ in measured] == [*SIZES, 64]
    assert 4096 not in device.runs


def test_what_interrupts_this_thread_is_left_out() -> None:
    device = Device(0.001, 0.001, first=1.0)
    timed = measure(device.run, SIZES, 1.0, clock=lambda: 3 * device.now_s, timer=lambda: device.now_s)
    assert dict(timed) == pytest.approx({size: 0.001 * size + 0.001 for size in SIZES})


def test_throughput_that_falls_makes_a_smaller_batch_preferred() -> None:
    measured = tuple((size, size * (0.001 if size <= 8 else 0.0012) + 0.0001) for size in SIZES)
    assert preferred_rows(measured, 32) == 4  # 8 gets 1.2% more done than 4


def test_throughput_that_grows_makes_the_largest_preferred() -> None:
    measured = tuple((size, size * 0.0001 + 0.008) for size in SIZES)
    assert preferred_rows(measured, 32) == 32
    assert preferred_rows(measured[:3], 32) == 32  # larger ones were not measured


def test_with_nothing_measured_the_largest_is_preferred() -> None:
    assert preferred_rows((), 32) == 32
    assert preferred_rows(((1, 0.0), (2, 0.0)), 2) == 2


@given(st.lists(st.floats(1e-7, 10.0), min_size=1, max_size=8))
def test_what_is_preferred_is_nearly_the_best(times_s: list[float]) -> None:
    measured = tuple((1 << power, run_s) for power, run_s in enumerate(times_s))
    largest = measured[-1][0]
    chosen = preferred_rows(measured, largest)
    rates = {rows: rows / run_s for rows, run_s in measured}
    assert rates[chosen] >= 0.97 * max(rates.values())
    assert all(rates[rows] < 0.97 * max(rates.values()) for rows in rates if rows < chosen)


def test_default_buckets_are_powers_of_two_and_the_largest() -> None:
    assert buckets(1) == (1,)
    assert buckets(32) == (1, 2, 4, 8, 16, 32)
    assert buckets(24) == (1, 2, 4, 8, 16, 24)


def test_declared_buckets_are_cut_at_the_largest_batch() -> None:
    assert buckets(16, (4, 64, 1)) == (1, 4, 16)


@given(st.integers(1, 4096), st.none() | st.lists(st.integers(1, 4096), max_size=8))
def test_buckets_rise_to_the_largest_batch(max_batch: int, declared: list[int] | None) -> None:
    found = buckets(max_batch, declared)
    assert list(found) == sorted(set(found))
    assert found[0] >= 1
    assert found[-1] == max_batch


@pytest.mark.parametrize(
    "noted", [None, 3, "times", [], [[1]], [[0, 1.0]], [["1", 1.0]], [[1, "x"]], [[1, -1.0]], [[1, float("inf")]]]
)
def test_notes_that_are_no_times_are_not_used(noted: Any) -> None:
    assert checked(noted) is None


def test_the_second_start_only_warms_up(tmp_path: Path) -> None:
    first, second, other = Toy(), Toy(), Toy()
    found = calibrate(first, config(tmp_path), StartCache(tmp_path, "toy"), "fp32")
    assert calibrate(second, config(tmp_path), StartCache(tmp_path, "toy"), "fp32") == found
    assert [len(rows) for rows in second.batches] == [1, 2, 4, 8]
    assert len(first.batches) > 4
    calibrate(other, config(tmp_path), StartCache(tmp_path, "toy"), "bf16")
    assert len(other.batches) > 4


def test_of_two_consumers_one_measures_and_both_batch_alike(tmp_path: Path) -> None:
    found: list[Calibration] = []

    def start() -> None:
        found.append(calibrate(Toy(), config(tmp_path), StartCache(tmp_path, "toy"), "fp32"))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_before_something_faster_is_found_small_batches_are_prepared_for(tmp_path: Path) -> None:
    model = Toy()
    found = calibrate_briefly(model, config(tmp_path, max_batch=32))
    assert max(len(rows) for rows in model.batches) == 8
    assert found.preferred == 8
    assert calibrate_briefly(Toy(), config(tmp_path, max_batch=2)).preferred == 2


def test_adaptive_fills_batches_to_the_preferred_size_and_window_to_the_largest(tmp_path: Path) -> None:
    found = Calibration(((1, 0.001), (4, 0.004), (8, 0.01)), 4)
    adaptive, cost = make_batcher(config(tmp_path), found)
    assert adaptive.budget.most_rows == 4
    assert cost.run_s(4) == pytest.approx(0.004, rel=0.2)
    assert make_batcher(config(tmp_path, policy="window"), found)[0].budget.most_rows == 8


def test_of_a_model_that_generates_one_batch_is_run(tmp_path: Path) -> None:
    """It is asked step by step: how long thirty-two texts take at once says nothing, and takes most of its start."""
    model = build("chat", ModelConfig("generate", architecture="null"))
    model.load("cpu", "fp32")
    runs: list[int] = []
    run = model.run
    model.run = lambda rows: runs.append(len(rows)) or run(rows)  # type: ignore[method-assign, func-returns-value]
    found = calibrate(model, config(tmp_path), StartCache(tmp_path, "chat"), "fp32")
    assert set(runs) == {1}
    assert [rows for rows, _ in found.measured] == [1]


class Texts(Toy):
    """Counts tokens: its sample rows have 3, 4, 5, …"""

    def describe(self) -> Description:
        return Description((), (), unit="token")

    def units(self, row: Any) -> int:
        return len(row)

    def sample_rows(self, count: int) -> list[bytes]:
        return [b"x" * (number + 3) for number in range(count)]


def test_the_cost_of_a_model_that_counts_units_is_that_of_units(tmp_path: Path) -> None:
    found = calibrate(Texts(), config(tmp_path, max_batch=4), StartCache(tmp_path, "toy"), "fp32")
    assert [rows for rows, _ in found.measured] == [1, 2, 4]
    assert (found.unit, found.units) == ("token", (3, 7, 18))
    assert found.units_per_row == 28 / 7
    exact = replace(found, measured=((1, 0.03), (2, 0.07), (4, 0.18)))
    assert exact.cost().per_unit_s == pytest.approx(0.01)
    assert "10 ms a token" in told(exact, config(tmp_path))


class Bounded(Texts):
    """At most 20 tokens in a batch."""

    def describe(self) -> Description:
        return Description((), (), unit="token", most_units=20)


def test_a_model_that_bounds_its_units_gets_batches_in_units(tmp_path: Path) -> None:
    found = calibrate(Bounded(), config(tmp_path, max_batch=16), StartCache(tmp_path, "toy"), "fp32")
    assert [rows for rows, _ in found.measured] == [1, 2, 4]  # eight rows have 52 tokens
    assert found.most_units == 20
    assert found.preferred_units is not None
    assert 3 <= found.preferred_units <= 20
    chosen = replace(found, preferred_units=7)
    budget = make_batcher(config(tmp_path, max_batch=16), chosen)[0].budget
    assert isinstance(budget, TokenBudget)
    assert (budget.most, budget.most_rows) == (7, 16)
    window = config(tmp_path, max_batch=16, policy="window")
    assert make_batcher(window, chosen)[0].budget.most == 20
    assert isinstance(make_batcher(window, replace(chosen, pads_rows=True))[0].budget, PaddedTokenBudget)


def test_the_preferred_batch_is_chosen_by_units_since_rows_differ(tmp_path: Path) -> None:
    class Timer:
        """Each run takes a second and a tenth of one for each token: larger batches get more done."""

        now_s = 0.0

        def __call__(self) -> float:
            return self.now_s

    timer = Timer()

    class Slow(Bounded):
        def run(self, rows: Any) -> Any:
            timer.now_s += 1 + 0.1 * sum(map(len, rows))
            return rows

    found = calibrate(Slow(), config(tmp_path, max_batch=16), StartCache(tmp_path, "toy"), "fp32", timer)
    assert (found.preferred_units, found.preferred) == (20, 5)


def test_echo_is_measured_without_numpy_or_torch(tmp_path: Path) -> None:
    """Its process would be four times as large and start a second later."""
    code = (
        "import sys; from pathlib import Path; from consumer.loading.warmup import measure; "
        "from consumer.models.echo import Echo; from consumer.worker import Worker; "
        "model = Echo(); print(len(measure(lambda size: model.run(model.sample_rows(size)), (1, 2, 4), 1.0))); "
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.split("\n")[:2] == ["3", "[]"]
    assert Echo().run([b"x"]) == [b"x"]
