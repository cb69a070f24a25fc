"""Does the chosen precision give the answers that fp32 gives? Asked at start-up, on sample inputs.

The comparison itself is in ``parity.py``. It needs numpy, which a model that does without it should not have to load,
so it is imported only when there is something to compare.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .events import Parity
from .models.base import Model

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = 16


class PrecisionRefused(ValueError):
    """The chosen precision is too far from fp32; ``parity`` holds the figures."""

    def __init__(self, parity: Parity) -> None:
        super().__init__(
            f"precision {parity.precision} is refused: {parity.reason} Use fp32, or another precision that passes."
        )
        self.parity = parity


def prepare(build: Callable[[], Model], device: str, precision: str, samples: int = SAMPLES) -> tuple[Model, Parity]:
    """Build and load a model in ``precision`` after comparing it with fp32; call it on the thread that runs torch.

    For another precision than fp32 the model is first loaded in fp32, run over the samples and let go, so that never
    two copies of the weights are in memory.

    Args:
        build: makes a model that is not loaded yet; called once for fp32, twice otherwise.
        device: ``cpu`` or ``cuda``.
        samples: number of sample inputs, run as one batch.

    Returns:
        The loaded model, and how close it comes to fp32.

    Raises:
        PrecisionRefused: the outputs are too far from fp32's.
        ValueError: the model cannot be built, or not loaded so.
    """
    if precision == "fp32":
        model = _loaded(build, device, precision)
        return model, Parity(
            precision, 0, 1.0, 0.0, 1.0, True, "nothing to compare, it is what others are compared with."
        )
    reference = _reference(build, device, samples)
    model = _loaded(build, device, precision)
    candidate = _outputs(model, samples)
    if reference is None or candidate is None:
        reason = "the outputs are not arrays of numbers, so they were not compared with fp32's."
        return model, Parity(precision, 0, 1.0, 0.0, 1.0, True, reason)
    from .parity import compare

    parity = compare(reference, candidate, precision)
    if not parity.passed:
        raise PrecisionRefused(parity)
    return model, parity


def _loaded(build: Callable[[], Model], device: str, precision: str) -> Model:
    model = build()
    model.load(device, precision)
    return model


def _reference(build: Callable[[], Model], device: str, samples: int) -> NDArray[Any] | None:
    """Run fp32 and free it before returning."""
    model = _loaded(build, device, "fp32")
    outputs = _outputs(model, samples)
    del model
    gc.collect()
    torch = sys.modules.get("torch")  # not imported for models that do without it
    if device == "cuda" and torch is not None:
        torch.cuda.empty_cache()
    return outputs


def _outputs(model: Model, samples: int) -> NDArray[Any] | None:
    """Return the model's outputs for its sample rows as one array, or None when they are not equal arrays of numbers.

    The array is a copy, since a model may hand out the same buffer again.
    """
    return _as_array(model.run(model.sample_rows(samples)))


def _as_array(outputs: Sequence[Any]) -> NDArray[Any] | None:
    import numpy as np

    try:
        array = np.array(outputs)
    except (ValueError, TypeError):
        return None
    return array if array.ndim > 0 and array.dtype.kind in "fiub" else None
