"""What ``compute`` gives back, as arrays with one row for each row that went in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.models import ranking
from consumer.models.base import Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor


def as_array(value: Any) -> NDArray[Any]:
    """Return an array of numpy for what numpy, torch or Python has made; a tensor of torch leaves its device."""
    detach = getattr(value, "detach", None)
    if detach is not None:
        value = detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
        return np.asarray(value.numpy())
    return np.asarray(value)


def rows_of(value: Any, count: int, what: str) -> NDArray[Any]:
    """Return ``value`` as an array with ``count`` rows.

    Args:
        what: names the value in messages, such as ``compute``.

    Raises:
        ValueError: it has another number of rows.
    """
    array = as_array(value)
    if array.ndim == 0 or len(array) != count:
        found = "a single value" if array.ndim == 0 else f"{len(array)} rows"
        raise ValueError(f"{what} must return one row for each of the {count} rows it got, not {found}.")
    return array


def named(value: Any, specs: Sequence[TensorSpec]) -> Mapping[str, Any]:
    """Return what ``compute`` gave by the names of ``specs``: a mapping, or the one output itself.

    Raises:
        ValueError: outputs are missing, or there are others.
    """
    if isinstance(value, Mapping):
        names = [spec.name for spec in specs]
        if set(value) != set(names):
            raise ValueError(f"compute must return {', '.join(names)}, not {', '.join(map(str, value)) or 'nothing'}.")
        return value
    if len(specs) != 1:
        raise ValueError(f"compute must return a mapping with {', '.join(spec.name for spec in specs)}.")
    return {specs[0].name: value}


def check(request: Request, labels: Sequence[str] | None) -> None:
    """Refuse a ``top_k`` that cannot be, before anything is computed.

    Raises:
        RequestError: ``INVALID_INPUT``.
    """
    if labels is not None:
        ranking.top_k(request, len(labels))


def answer(outputs: Sequence[Any], labels: Sequence[str] | None, request: Request) -> Result:
    """Return the likeliest classes of each row, or without labels the rows themselves as the output ``vector``."""
    values: NDArray[np.float32] = np.asarray(outputs, "<f4")
    if labels is None:
        return Result(outputs=[Tensor("vector", "FP32", values.shape, values.tobytes())])
    ranked = ranking.best(values, ranking.top_k(request, len(labels)))
    return Result(predictions=ranking.predictions(values, labels, ranked))
