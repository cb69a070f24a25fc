"""An ONNX file quantised to int8 by ONNX Runtime's own tool, with the ranges of activations from sample pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .base import CannotRun, Pixels

BATCH = 8


def quantise(source: Path, target: Path, samples: Sequence[Pixels]) -> None:
    """Write ``source`` to ``target`` with weights and activations of 8 bits.

    Args:
        samples: pictures to take the ranges of activations from.

    Raises:
        CannotRun: it cannot be quantised.
    """
    from onnxruntime import quantization

    prepared = target.with_name("prepared.onnx")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the tool tells the root logger of each copy that it makes
    try:
        quantization.shape_inference.quant_pre_process(str(source), str(prepared))
        quantization.quantize_static(
            str(prepared),
            str(target),
            _reader(quantization, samples),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    except Exception as error:
        raise CannotRun(f"it cannot be quantised: {str(error).strip()[:300].rstrip('.')}.") from error
    finally:
        logging.disable(before)
        prepared.unlink(missing_ok=True)


def _reader(quantization: Any, samples: Sequence[Pixels]) -> Any:
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[Any] = (
                {"input": np.stack(samples[start : start + BATCH])} for start in range(0, len(samples), BATCH)
            )

        def get_next(self) -> Any:
            return next(self._batches, None)

    return Reader()
