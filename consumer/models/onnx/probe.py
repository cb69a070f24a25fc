"""What an ONNX file really does with rows: it is tried once, before it serves. What a file declares may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.runtimes.exported.file_session import FileSession
from consumer.runtimes.exported.onnx_file import OnnxFile
from shared.state.cards import ITEM_BYTES, TensorSpec

from .sample_rows import Row, made

FREE_SIZES = (8, 64, 224, 1)
"""Tried one after the other for sizes that may be any: texts and series, then pictures, which must not be too small."""

TOGETHER = 3
"""Rows that are run together and alone."""

MOST_INFLUENCE = 0.05
"""Of the largest value: by so much an output of a row may change with the other rows. Rounding is far below."""

MOST_SCALED = 0.25
"""The same where numbers are quantised by the largest of a whole batch; that is known to be rough."""

_KINDS = {"b": "BOOL", "O": "BYTES", "U": "BYTES"}
_SIZED = {"u": "UINT", "i": "INT", "f": "FP"}

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found.

    Attributes:
        rows: samples that the file takes.
        outputs: described as a card does it.
    """

    rows: list[Row]
    outputs: tuple[TensorSpec, ...]


def stacked(rows: Sequence[Row]) -> Arrays:
    """Return one array per input, of rows whose values have the same shape."""
    return [stack(values) for values in zip(*rows, strict=True)]


def stack(values: Sequence[Any]) -> NDArray[Any]:
    """Return the values of one input or output below each other."""
    if isinstance(values[0], str):
        return np.array(values, dtype=object)
    return np.asarray(values[0])[np.newaxis] if len(values) == 1 else np.stack(values)


def probe(session: FileSession, file: OnnxFile, own: Sequence[Row], runs_alone: bool) -> Probed:
    """Run samples and look at what comes back.

    Args:
        own: the user's samples; empty for made-up ones.
        runs_alone: rows will never be run together.

    Raises:
        ValueError: no samples run, the outputs are not one per row, or a row's output depends on other rows.
    """
    rows, first = _running(session, file, own)
    _check_counts(file, first, 1)
    if runs_alone or file.rows == 1:
        return Probed(rows, _described(file, first))
    beside = _alike(rows)
    together = _tried(session, beside)
    _check_counts(file, together, len(beside))
    outputs = _described(file, together)
    if not _is_by_chance(session, beside[0]):
        for number, row in enumerate(beside):
            _check_alone(file, session.run(stacked([row])), [one[number : number + 1] for one in together])
    return Probed(rows, outputs)


def _alike(rows: Sequence[Row]) -> list[Row]:
    """Return the first few rows that can be run together."""
    shape = shapes(rows[0])
    found = [row for row in rows if shapes(row) == shape][:TOGETHER]
    return found if len(found) > 1 else found * 2


def shapes(row: Row) -> tuple[Any, ...]:
    """Return what rows must have in common to be run together."""
    return tuple(np.shape(value) for value in row)


def _running(session: FileSession, file: OnnxFile, own: Sequence[Row]) -> tuple[list[Row], Arrays]:
    """Return rows that the file takes, and the outputs of the first of them."""
    if own:
        return list(own), _tried(session, own[:1])
    specs = [one.spec for one in file.inputs]
    said: list[ValueError] = []
    for size in FREE_SIZES if file.has_free_sizes else FREE_SIZES[:1]:
        try:
            rows = made(specs, size)
            return rows, _tried(session, rows[:1])
        except ValueError as error:
            said.append(error)
    raise ValueError(
        f"it does not run on made-up inputs ({str(said[0]).rstrip('.')}); name an .npz file with real ones as samples."
    )


def _tried(session: FileSession, rows: Sequence[Row]) -> Arrays:
    found = session.run(stacked(rows))
    for one in found:
        if not isinstance(one, np.ndarray):
            raise ValueError(f"it gives a {type(one).__name__}, and only tensors can be sent")
    return found


def _check_counts(file: OnnxFile, found: Arrays, count: int) -> None:
    for name, one in zip(file.outputs, found, strict=True):
        if one.shape[:1] != (count,):
            raise ValueError(
                f"its output {name[:80]} has the shape {list(one.shape)} for {count} row{'s'[: count != 1]}: the first "
                "dimension must be the number of rows."
            )


def _described(file: OnnxFile, found: Arrays) -> tuple[TensorSpec, ...]:
    return tuple(_spec(name, declared, one) for (name, declared), one in zip(file.outputs.items(), found, strict=True))


def _spec(name: str, declared: tuple[int, ...] | None, found: NDArray[Any]) -> TensorSpec:
    kind, bits = found.dtype.kind, 8 * found.dtype.itemsize
    datatype = _KINDS.get(kind) or f"{_SIZED.get(kind, kind)}{bits}"
    if datatype != "BYTES" and datatype not in ITEM_BYTES:
        raise ValueError(f"its output {name[:80]} is of {found.dtype}, which an answer cannot hold.")
    sizes = (declared or ())[1:]
    if len(sizes) != found.ndim - 1:
        sizes = (-1,) * (found.ndim - 1)
    fitting = (size if size == have else -1 for size, have in zip(sizes, found.shape[1:], strict=True))
    return TensorSpec(name, datatype, tuple(fitting))


def _is_by_chance(session: FileSession, row: Row) -> bool:
    """Say whether the same row gets another answer each time."""
    pairs = zip(session.run(stacked([row])), session.run(stacked([row])), strict=True)
    return any(not _is_close(one, other) for one, other in pairs)


def _check_alone(file: OnnxFile, alone: Arrays, together: Arrays) -> None:
    for name, one, other in zip(file.outputs, alone, together, strict=True):
        if not _is_close(one, other, MOST_SCALED if file.scales_batches else MOST_INFLUENCE):
            raise ValueError(
                f"its output {name[:80]} for a row changes with the rows that are run beside it, which may be somebody "
                "else's; max_batch = 1 runs each row alone."
            )


def _is_close(one: NDArray[Any], other: NDArray[Any], most: float = MOST_INFLUENCE) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":  # a number of a class jumps when scores are nearly equal
        return True
    mine, theirs = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(mine) & np.isfinite(theirs)
    if not finite.any():
        return True
    largest = np.abs(mine[finite]).max()
    return bool(np.abs(mine - theirs, where=finite, out=np.zeros_like(mine)).max() <= most * largest + 1e-6)


def agrees(session: FileSession, reference: FileSession, rows: Sequence[Row]) -> bool:
    """Say whether ``session`` gives for the first of ``rows`` what ``reference`` gives."""
    inputs = stacked(_alike(rows))
    pairs = zip(session.run(inputs), reference.run(inputs), strict=True)
    return all(_is_close(one, other) for one, other in pairs)
