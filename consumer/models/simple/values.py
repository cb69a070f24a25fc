"""What ``compute`` gives back, as arrays with one row for each row that went in. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.state.cards import TensorSpec


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
