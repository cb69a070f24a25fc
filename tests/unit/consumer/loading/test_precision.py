"""Is the chosen precision as good as fp32? The comparison, and the refusal."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from consumer.events import Parity
from consumer.loading import precision
from consumer.loading.start_cache import StartCache
from consumer.models.base import Description, Model, Result
from consumer.models.families import build
from consumer.runtimes import instructions
from consumer.tuning.parity import compare
from shared import model_config
from shared.model_config import ModelConfig
from shared.wire.messages import Request

ROOT = Path(__file__).parents[4]
RANDOM = np.random.default_rng(11)
REFERENCE = RANDOM.normal(size=(16, 100)).astype(np.float32)


@pytest.mark.parametrize("name", ["tf32", "fp16", "bf16"])
def test_equal_outputs_agree_perfectly(name: str) -> None:
    parity = compare(REFERENCE, REFERENCE, name)
    assert parity.passed
    assert (parity.rows, parity.top1_agreement, parity.largest_difference) == (16, 1.0, 0.0)
    assert parity.cosine == pytest.approx(1)


@pytest.mark.parametrize(("name", "share"), [("fp16", 0.01), ("tf32", 0.01), ("bf16", 0.03)])
def test_the_largest_difference_decides(name: str, share: float) -> None:
    for factor, passes in ((0.9, True), (1.1, False)):
        changed = REFERENCE.copy()
        changed[3, 5] += factor * share * np.abs(REFERENCE).max()
        parity = compare(REFERENCE, changed, name)
        assert parity.passed is passes
        assert parity.largest_difference == pytest.approx(factor * share, rel=1e-3)
    assert "largest difference" in parity.reason


@pytest.mark.parametrize(("name", "level"), [("fp16", 0.9999), ("bf16", 0.999)])
def test_cosine_similarity_decides(name: str, level: float) -> None:
    reference = np.ones((4, 1000), np.float32)
    for factor, passes in ((0.8, True), (1.25, False)):
        noise = np.sqrt(1 / level**2 - 1) * factor
        changed = reference + noise * np.where(np.arange(1000) % 2, 1, -1)
        parity = compare(reference, changed, name)
        assert (parity.cosine >= level) is passes
    assert f"is below {level}" in parity.reason


def test_a_flipped_top_1_counts_only_where_fp32_was_sure() -> None:
    sure, unsure = np.array([[1.0, 0.9, -50.0]]), np.array([[1.0, 0.99999, -50.0]])
    flipped = compare(sure, sure + np.array([[-0.06, 0.06, 0.0]]), "bf16")
    assert flipped.top1_agreement == 0
    assert not flipped.passed
    assert "top-1 agreement 0.0% is below 99.0%" in flipped.reason
    close = compare(unsure, unsure + np.array([[-0.06, 0.06, 0.0]]), "bf16")
    assert close.top1_agreement == 1
    assert close.passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_never_pass(value: float) -> None:
    broken = REFERENCE.copy()
    broken[2, 2] = value
    assert "its outputs are not finite" in compare(REFERENCE, broken, "bf16").reason
    parity = compare(broken, REFERENCE, "bf16")
    assert not parity.passed
    assert "fp32's outputs are not finite" in parity.reason


def test_other_shapes_never_pass() -> None:
    assert not compare(REFERENCE, REFERENCE[:, :50], "bf16").passed


def test_zeros_agree_with_zeros_only() -> None:
    zeros = np.zeros((2, 3))
    assert compare(zeros, zeros, "fp16").passed
    assert not compare(zeros, zeros + 1, "fp16").passed
    assert not compare(zeros + 1, zeros, "fp16").passed


class Doubling(Model):
    """Doubles its numbers, up to an error that the lower precisions make; cache what became of it."""

    precision = "nothing"

    def __init__(self, error: float, log: list[str], text: bool = False) -> None:
        self.error, self.log, self.text = error, log, text

    def describe(self) -> Description:
        return Description((), ())

    def load(self, device: str, precision: str) -> None:
        self.precision = precision
        self.log.append(f"load {precision}")

    def preprocess(self, request: Request) -> Sequence[Any]:
        return []

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        if self.text:
            return [b"text" for _ in rows]
        return [row * 2 + (0 if self.precision == "fp32" else self.error) for row in rows]

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        return Result()

    def sample_rows(self, count: int) -> Sequence[Any]:
        return list(REFERENCE[:count])

    def __del__(self) -> None:
        self.log.append(f"free {self.precision}")


def test_fp32_is_loaded_once_and_not_compared() -> None:
    log: list[str] = []
    model, parity = precision.prepare(lambda: Doubling(0, log), "cpu", "fp32", StartCache())
    assert log == ["load fp32"]
    assert (parity.passed, parity.rows, parity.top1_agreement, parity.cosine) == (True, 0, 1.0, 1.0)
    assert isinstance(model, Doubling)


def test_the_reference_is_freed_before_the_other_is_loaded() -> None:
    log: list[str] = []
    model, parity = precision.prepare(lambda: Doubling(0.001, log), "cpu", "bf16", StartCache(), max_batch=16)
    assert log == ["load fp32", "free fp32", "load bf16"]
    assert parity.passed
    assert parity.rows == sum(precision.SIZES[:3]) + 16  # largest batch: 16
    assert isinstance(model, Doubling)
    assert model.precision == "bf16"


def test_a_broken_precision_is_refused_with_its_figures() -> None:
    with pytest.raises(precision.PrecisionRefused, match=r"precision bf16 is refused: .*largest difference") as caught:
        precision.prepare(lambda: Doubling(0.5, []), "cpu", "bf16", StartCache())
    assert not caught.value.parity.passed
    assert caught.value.parity.largest_difference > 0.03


def test_outputs_that_are_not_numbers_are_not_compared() -> None:
    _, parity = precision.prepare(lambda: Doubling(0, [], text=True), "cpu", "bf16", StartCache())
    assert parity.passed
    assert parity.rows == 0
    assert "not compared" in parity.reason


class Timed(Doubling):
    """Runs in several precisions, each with an error and a time of its own, on a clock that the test owns."""

    clock = 0.0
    effects: ClassVar[dict[str, tuple[float, float]]] = {}
    """Of each precision: the error of its outputs, and the time of a run."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(0, log)

    def precisions(self, device: str) -> Sequence[str]:
        return tuple(self.effects)

    def load(self, device: str, precision: str) -> None:
        super().load(device, precision)
        self.error, self.takes_s = self.effects[precision]
        if self.takes_s < 0:
            raise RuntimeError("no such instruction.")

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        Timed.clock += self.takes_s
        return [row * 2 + self.error for row in rows]


def lack(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the device lack instructions for these, and for no others."""
    why = "this processor has no instructions for it"
    monkeypatch.setattr(instructions, "lacks", lambda device, name: why if name in names else "")


@pytest.fixture(autouse=True)
def every_instruction(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried does not depend on the machine that runs the tests."""
    lack(monkeypatch)


def automatic(
    monkeypatch: pytest.MonkeyPatch, cache: StartCache | None = None, **effects: tuple[float, float]
) -> tuple[str, Parity, list[str]]:
    """Prepare in precision auto: the precision in force, what is told of it, and what was loaded."""
    monkeypatch.setattr(precision, "perf_counter", lambda: Timed.clock)
    monkeypatch.setattr(Timed, "effects", {"fp32": (0.0, 1.0), **effects})
    log: list[str] = []
    model, parity = precision.prepare(lambda: Timed(log), "cpu", "auto", cache or StartCache(), 16)
    assert isinstance(model, Timed)
    assert model.precision == parity.precision
    assert parity.passed
    return parity.precision, parity, [entry for entry in log if entry.startswith("load")]


def test_auto_takes_the_fastest_that_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    name, parity, loads = automatic(monkeypatch, tf32=(0.001, 0.8), fp16=(9.0, 0.2), bf16=(0.001, 0.5))
    assert name == "bf16"
    assert parity.reason.startswith("it agrees with fp32 on 30 sample inputs")
    assert "A small batch takes 500 ms, in fp32 1e+03 ms." in parity.reason
    assert loads == ["load fp32", "load tf32", "load fp16", "load bf16"]


def test_auto_loads_the_best_again_when_it_was_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, loads = automatic(monkeypatch, tf32=(0.001, 0.5), bf16=(0.001, 0.8))
    assert name == "tf32"
    assert loads == ["load fp32", "load tf32", "load bf16", "load tf32"]


@pytest.mark.parametrize(
    ("effect", "reason"),
    [
        ((9.0, 0.5), "bf16: against fp32 on 30 sample inputs, .*largest difference"),
        ((0.001, 0.99), "bf16 is not faster: a small batch takes 990 ms, in fp32 1e\\+03 ms"),
        ((0.001, -1.0), "bf16 cannot run: no such instruction"),
        ((float("nan"), 0.5), "its outputs are not finite"),
    ],
)
def test_auto_steps_down_to_fp32_and_says_why(
    monkeypatch: pytest.MonkeyPatch, effect: tuple[float, float], reason: str
) -> None:
    name, parity, _ = automatic(monkeypatch, bf16=effect)
    assert name == "fp32"
    assert re.search(reason, parity.reason)


def test_the_next_start_compares_only_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = StartCache()
    automatic(monkeypatch, cache, tf32=(0.001, 0.8), bf16=(0.001, 0.5))
    name, _, loads = automatic(monkeypatch, cache, tf32=(0.001, 0.1), bf16=(0.001, 2.0))
    assert name == "bf16"
    assert loads == ["load fp32", "load bf16"]


def test_what_was_chosen_and_no_longer_agrees_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = StartCache()
    automatic(monkeypatch, cache, bf16=(0.001, 0.5))
    name, parity, _ = automatic(monkeypatch, cache, bf16=(9.0, 0.5))
    assert name == "fp32"
    assert "largest difference" in parity.reason


def test_the_next_start_knows_why_it_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = StartCache()
    automatic(monkeypatch, cache, bf16=(9.0, 0.5))
    _, parity, loads = automatic(monkeypatch, cache, bf16=(9.0, 0.5))
    assert loads == ["load fp32"]
    assert "largest difference" in parity.reason


@pytest.mark.parametrize("known", [7, "bf16", {"precision": "fp64"}, {"precision": ["bf16"]}, {}])
def test_nonsense_in_the_notes_is_measured_anew(monkeypatch: pytest.MonkeyPatch, known: Any) -> None:
    cache = StartCache()
    cache.put("precision cpu of bf16", known)
    assert automatic(monkeypatch, cache, bf16=(0.001, 0.5))[0] == "bf16"


def test_auto_is_fp32_for_models_that_name_nothing_else() -> None:
    log: list[str] = []
    _, parity = precision.prepare(lambda: Doubling(0, log, text=True), "cpu", "auto", StartCache())
    assert parity.precision == "fp32"
    assert "load bf16" not in log


def test_a_slower_precision_that_was_asked_for_is_used_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "perf_counter", lambda: Timed.clock)
    monkeypatch.setattr(Timed, "effects", {"fp32": (0.0, 1.0), "bf16": (0.001, 2.0)})
    with caplog.at_level(logging.WARNING):
        _, parity = precision.prepare(lambda: Timed([]), "cpu", "bf16", StartCache())
    assert parity.precision == "bf16"
    assert "slower than fp32" in parity.reason
    assert "slower than fp32" in caplog.text


@pytest.fixture
def one_thread() -> Any:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_auto_does_not_try_what_there_are_no_instructions_for(monkeypatch: pytest.MonkeyPatch) -> None:
    lack(monkeypatch, "bf16")
    name, parity, loads = automatic(monkeypatch, bf16=(0.001, 0.5))
    assert name == "fp32"
    assert loads == ["load fp32"]
    assert "bf16 is not tried, since this processor has no instructions for it." in parity.reason


def test_auto_tries_the_others_and_tells_of_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lack(monkeypatch, "tf32", "bf16")
    name, _, loads = automatic(monkeypatch, tf32=(0.001, 0.5), fp16=(0.001, 0.8), bf16=(0.001, 0.5))
    assert name == "fp16"
    assert loads == ["load fp32", "load fp16"]
    name, parity, _ = automatic(monkeypatch, tf32=(0.001, 0.5), fp16=(9.0, 0.8), bf16=(0.001, 0.5))
    assert name == "fp32"
    for part in ("tf32 is not tried", "bf16 is not tried", "fp16: against fp32"):
        assert part in parity.reason


def test_a_name_is_tried_without_instructions_too_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lack(monkeypatch, "bf16")
    monkeypatch.setattr(precision, "perf_counter", lambda: Timed.clock)
    monkeypatch.setattr(Timed, "effects", {"fp32": (0.0, 1.0), "bf16": (0.001, 50.0)})
    with caplog.at_level(logging.WARNING):
        _, parity = precision.prepare(lambda: Timed([]), "cpu", "bf16", StartCache())
    assert (parity.precision, parity.passed) == ("bf16", True)
    assert "It is emulated, since this processor has no instructions for it. It is slower than fp32" in parity.reason
    assert "asked for by name, although this processor has no instructions for it" in caplog.text
    monkeypatch.setattr(Timed, "effects", {"fp32": (0.0, 1.0), "bf16": (9.0, 50.0)})
    with pytest.raises(precision.PrecisionRefused):
        precision.prepare(lambda: Timed([]), "cpu", "bf16", StartCache())


class Counting(Timed):
    """Counts its runs in each precision."""

    runs: ClassVar[list[str]] = []

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        Counting.runs.append(self.precision)
        return super().run(rows)


@pytest.mark.parametrize(("takes_s", "runs"), [(2.01, 1), (1.99, 4)])
def test_a_trial_twice_as_slow_is_given_up_at_its_first_batch(
    monkeypatch: pytest.MonkeyPatch, takes_s: float, runs: int
) -> None:
    monkeypatch.setattr(precision, "perf_counter", lambda: Timed.clock)
    monkeypatch.setattr(Timed, "effects", {"fp32": (0.0, 1.0), "bf16": (0.001, takes_s)})
    monkeypatch.setattr(Counting, "runs", [])
    model, parity = precision.prepare(lambda: Counting([]), "cpu", "auto", StartCache(), 1)
    assert isinstance(model, Timed)
    assert model.precision == "fp32"
    assert Counting.runs.count("bf16") == runs
    assert "bf16 is not faster: " in parity.reason
    if runs == 1:
        assert "its first batch took 2.01e+03 ms, of the best 1e+03 ms." in parity.reason


def test_the_best_so_far_is_what_a_trial_is_given_up_against(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "perf_counter", lambda: Timed.clock)
    monkeypatch.setattr(Timed, "effects", {"fp32": (0.0, 1.0), "tf32": (0.001, 0.3), "bf16": (0.001, 0.7)})
    monkeypatch.setattr(Counting, "runs", [])
    _, parity = precision.prepare(lambda: Counting([]), "cpu", "auto", StartCache(), 1)
    assert parity.precision == "tf32"
    assert Counting.runs.count("bf16") == 1


def test_what_is_done_once_only_does_not_make_a_short_trial_hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unpacking(Timed):
        """Its first run takes three times as long."""

        ran = False

        def run(self, rows: Sequence[Any]) -> Sequence[Any]:
            if self.precision == "bf16" and not self.ran:
                self.ran = True
                Timed.clock += 2 * self.takes_s
            return super().run(rows)

    monkeypatch.setattr(precision, "perf_counter", lambda: Timed.clock)
    monkeypatch.setattr(Timed, "effects", {"fp32": (0.0, 0.01), "bf16": (0.001, 0.008)})
    _, parity = precision.prepare(lambda: Unpacking([]), "cpu", "auto", StartCache(), 1)
    assert parity.precision == "bf16"


needs_bf16 = pytest.mark.skipif(
    instructions.lacks("cpu", "bf16") != "", reason="what is promised of bf16 holds where its instructions exist"
)


@needs_bf16
@pytest.mark.parametrize("name", [pytest.param("imagenet", marks=pytest.mark.soak), "bench-mobilenet"])
@pytest.mark.usefixtures("one_thread")
def test_bf16_passes_on_the_shipped_models(name: str) -> None:
    config = model_config.load(ROOT / "models.toml")[name]
    _, parity = precision.prepare(lambda: build(name, config), "cpu", "bf16", StartCache())
    assert parity.passed, parity.reason
    assert parity.top1_agreement == 1


@pytest.mark.usefixtures("one_thread")
def test_a_network_broken_by_its_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from consumer.runtimes.pytorch import half_precision

    def broken(network: torch.nn.Module, dtype: torch.dtype, pictures: Any = None) -> torch.nn.Module:
        if dtype != torch.float32:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.copy_((parameter * 4).round() / 4)  # as if a few bits were all there is
        return network.to(dtype)

    monkeypatch.setattr(half_precision, "converted", broken)
    config = ModelConfig("torchvision", "mobilenet_v3_small", "random")
    with pytest.raises(precision.PrecisionRefused, match="precision bf16 is refused"):
        precision.prepare(lambda: build("mine", config), "cpu", "bf16", StartCache())
