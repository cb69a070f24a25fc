"""Is the chosen precision as good as fp32? The comparison, and the refusal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consumer import precision
from consumer.models.base import Description, Model, Result
from consumer.models.registry import build
from consumer.parity import compare
from shared import model_config
from shared.model_config import ModelConfig
from shared.wire import Request

ROOT = Path(__file__).parents[3]
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
    """Doubles its numbers, up to an error that the lower precisions make; notes what became of it."""

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
    model, parity = precision.prepare(lambda: Doubling(0, log), "cpu", "fp32")
    assert log == ["load fp32"]
    assert (parity.passed, parity.rows, parity.top1_agreement, parity.cosine) == (True, 0, 1.0, 1.0)
    assert isinstance(model, Doubling)


def test_the_reference_is_freed_before_the_other_is_loaded() -> None:
    log: list[str] = []
    model, parity = precision.prepare(lambda: Doubling(0.001, log), "cpu", "bf16", max_batch=16)
    assert log == ["load fp32", "free fp32", "load bf16"]
    assert parity.passed
    assert parity.rows == sum(precision.SIZES[:3]) + 16  # largest batch: 16
    assert isinstance(model, Doubling)
    assert model.precision == "bf16"


def test_a_broken_precision_is_refused_with_its_figures() -> None:
    with pytest.raises(precision.PrecisionRefused, match=r"precision bf16 is refused: .*largest difference") as caught:
        precision.prepare(lambda: Doubling(0.5, []), "cpu", "bf16")
    assert not caught.value.parity.passed
    assert caught.value.parity.largest_difference > 0.03


def test_outputs_that_are_not_numbers_are_not_compared() -> None:
    _, parity = precision.prepare(lambda: Doubling(0, [], text=True), "cpu", "bf16")
    assert parity.passed
    assert parity.rows == 0
    assert "not compared" in parity.reason


@pytest.fixture
def one_thread() -> Any:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["imagenet", "bench-mobilenet"])
@pytest.mark.usefixtures("one_thread")
def test_bf16_passes_on_the_shipped_models(name: str) -> None:
    config = model_config.load(ROOT / "models.toml")[name]
    _, parity = precision.prepare(lambda: build(name, config), "cpu", "bf16")
    assert parity.passed, parity.reason
    assert parity.top1_agreement == 1


@pytest.mark.usefixtures("one_thread")
def test_a_network_broken_by_its_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from consumer.models import half

    def broken(network: torch.nn.Module, dtype: torch.dtype, pictures: Any = None) -> torch.nn.Module:
        if dtype != torch.float32:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.copy_((parameter * 4).round() / 4)  # as if a few bits were all there is
        return network.to(dtype)

    monkeypatch.setattr(half, "converted", broken)
    config = ModelConfig("torchvision", "mobilenet_v3_small", "random")
    with pytest.raises(precision.PrecisionRefused, match="precision bf16 is refused"):
        precision.prepare(lambda: build("mine", config), "cpu", "bf16")
