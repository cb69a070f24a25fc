"""Example requests of a model: declared by the model itself, or made from one of its sample rows. Pure.

numpy is imported only where values become tensors, so that a model that does without it need not load it.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from consumer.models.base import RAW, Description
from shared.state.cards import Example, TensorSpec
from shared.wire.messages import Request, Tensor

MOST_PUBLISHED_BYTES = 4096
"""Of an example on the card, which front ends read every second."""

MOST_GUESSED_BYTES = 16 * 1024 * 1024
TTL_MS = 60_000
JSON = "application/json"
_RULE = "example() must return a text, bytes, a mapping from the name of each input to its value, or a Request"


def declared(given: Any, description: Description) -> Request:
    """Return the request that a model's ``example()`` stands for.

    Args:
        given: a text (for a model with one input, BYTES, or else the body), bytes (the body, of the first of the
            model's content types), a mapping from input names to values, or a request.

    Raises:
        ValueError: it is none of these, or its values do not fit the described inputs; one sentence.
    """
    if isinstance(given, Request):
        return given
    specs = description.inputs
    if isinstance(given, str) and len(specs) == 1 and specs[0].datatype == "BYTES":
        given = {specs[0].name: given}
    if isinstance(given, str | bytes):
        if not description.content_types:
            raise ValueError("example() returned a body, but the model describes no content type that a body may have.")
        body = given.encode() if isinstance(given, str) else given
        return Request("example", TTL_MS, description.content_types[0], body)
    if not isinstance(given, Mapping):
        raise ValueError(f"{_RULE}, not a {type(given).__name__}.")
    if set(given) != {spec.name for spec in specs}:
        raise ValueError(f"{_RULE}; the inputs are {', '.join(spec.name for spec in specs)}.")
    return _of_inputs([tensor(spec, given[spec.name]) for spec in specs])


def guessed(row: Any, description: Description) -> Request | None:
    """Return a request that probably corresponds to a sample row; None if its parts do not look like the inputs."""
    specs = description.inputs
    if isinstance(row, str | bytes) and len(specs) == 1:
        if specs[0].datatype == "BYTES":
            return _of_inputs([tensor(specs[0], row)])
        if isinstance(row, bytes) and RAW in description.content_types:
            return Request("example", TTL_MS, RAW, row)
        return None
    parts = _parts(row, specs)
    try:
        return None if parts is None else _of_inputs([tensor(*pair, strict=True) for pair in parts])
    except (ValueError, TypeError, OverflowError):
        return None


def _parts(row: Any, specs: Sequence[TensorSpec]) -> list[tuple[TensorSpec, Any]] | None:
    if isinstance(row, Mapping):
        if not all(spec.name in row for spec in specs):
            return None
        parts = [(spec, row[spec.name]) for spec in specs]
    elif len(specs) == 1:
        parts = [(specs[0], row)]
    elif isinstance(row, tuple | list) and len(row) == len(specs):
        parts = list(zip(specs, row, strict=True))
    else:
        return None
    sizes = [getattr(value, "nbytes", 0) for _, value in parts]
    fits = all(isinstance(size, int) for size in sizes) and sum(sizes) <= MOST_GUESSED_BYTES
    return parts if parts and fits else None


def _of_inputs(tensors: Sequence[Tensor]) -> Request:
    return Request("example", TTL_MS, inputs=tuple(tensors))


def tensor(spec: TensorSpec, value: Any, strict: bool = False) -> Tensor:
    """Return ``value`` as an input tensor of one row, or of several when it has one dimension more than a row.

    Args:
        strict: refuse numbers of another kind than the input's, such as fractions for whole numbers.

    Raises:
        ValueError: its shape or kind does not fit.
    """
    import numpy as np

    from .inputs import numpy_type

    if spec.datatype == "BYTES":
        array = np.array(value, dtype=object)
        if not all(isinstance(one, str | bytes) for one in array.ravel().tolist()):
            raise ValueError(f"the values of input {spec.name} must be texts.")
    else:
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
        wanted = numpy_type(spec.datatype)
        if strict and not np.can_cast(array.dtype, wanted, "same_kind"):
            raise ValueError(f"the values of input {spec.name} are not {spec.datatype}.")
        array = array.astype(wanted)
    shape = _full_shape(spec, array.shape)
    return Tensor(spec.name, spec.datatype, shape, _packed(spec, array))


def _full_shape(spec: TensorSpec, given: tuple[int, ...]) -> tuple[int, ...]:
    if math.prod(given) == 1 and len(given) < len(spec.shape):  # a single value for a row of one
        given = (1,) * len(spec.shape)
    full = given if len(given) == len(spec.shape) + 1 else (1, *given)
    if len(full) != len(spec.shape) + 1 or any(
        want not in (-1, have) for want, have in zip(spec.shape, full[1:], strict=True)
    ):
        raise ValueError(f"the value of input {spec.name} has the shape {list(given)}, not {list(spec.shape)}.")
    return full


def _packed(spec: TensorSpec, array: Any) -> bytes:
    if spec.datatype != "BYTES":
        data: bytes = array.tobytes()
        return data
    parts = [one.encode() if isinstance(one, str) else one for one in array.ravel().tolist()]
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def published(request: Request) -> Example | None:
    """Return a request as a client may send it over HTTP; None when it is too long to show, or cannot be typed."""
    if request.body is not None:
        return _raw(request.content_type or RAW, request.body)
    try:
        inputs = [
            {"name": one.name, "shape": list(one.shape), "datatype": one.datatype, "data": _elements(one)}
            for one in request.inputs or ()
            if len(one.data) <= MOST_PUBLISHED_BYTES
        ]
        text = json.dumps({"inputs": inputs}, ensure_ascii=False, allow_nan=False)
    except ValueError:  # what is no number, or no text
        return None
    is_whole = len(inputs) == len(request.inputs or ())
    return Example(JSON, text) if is_whole and len(text.encode()) <= MOST_PUBLISHED_BYTES else None


def _raw(content_type: str, body: bytes) -> Example | None:
    try:
        text: str | None = body.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and text.isprintable():
        example = Example(content_type, text)
    else:
        example = Example(content_type, base64.b64encode(body).decode(), is_base64=True)
    return example if body and len(example.body.encode()) <= MOST_PUBLISHED_BYTES else None


def _elements(one: Tensor) -> list[Any]:
    if one.datatype == "BYTES":
        texts, position = [], 0
        while position < len(one.data):
            end = position + 4 + int.from_bytes(one.data[position : position + 4], "little")
            texts.append(one.data[position + 4 : end].decode())
            position = end
        return texts
    import numpy as np

    from .inputs import numpy_type

    array = np.frombuffer(one.data, numpy_type(one.datatype))
    # As short as the type's own precision allows: 0.1, and not what a longer type makes of it.
    return [float(str(value)) for value in array] if array.dtype.kind == "f" else array.tolist()
