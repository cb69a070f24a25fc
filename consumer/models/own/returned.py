"""What the methods of a model of the user's own returned: taken as what it plainly is, or refused in one sentence.

Nothing here shows a returned object by its own ``repr``, which is the user's code as well.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

from consumer.models.base import Description
from shared.settings import PRECISIONS
from shared.state.cards import ITEM_BYTES, TensorSpec
from shared.wire.messages import MAX_DIMENSIONS, MAX_TEXT

MOST_ROWS = 65_536
"""Rows that one request can have; what goes on beyond that may go on for ever."""

MOST_LABELS = 10_000_000
DATATYPES = ("BYTES", *ITEM_BYTES)
ENVELOPES = ("application/json", "application/msgpack", "application/x-msgpack")
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")


_UNIT = re.compile(r"[A-Za-z]{1,32}")


class Unusable(ValueError):
    """A method returned what cannot be used; one sentence."""


def kind(value: object) -> str:
    """Name what a value is: ``None``, or its type with an article."""
    if value is None:
        return "None"
    name = type(value).__name__[:80]
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def listed(value: Any, what: str, most: int) -> Sequence[Any]:
    """Return the members of a sequence, an array or an iterator.

    Args:
        what: says what was expected, as in "preprocess() must return rows".
        most: return at most so many and one more, so that the caller sees that there are too many.

    Raises:
        Unusable: it is text, bytes, a mapping or a set, or cannot be iterated over.
    """
    if type(value) is list or type(value) is tuple:
        return value
    if not isinstance(value, str | bytes | bytearray | memoryview | Mapping | AbstractSet):
        try:
            members = iter(value)
        except TypeError:
            pass
        else:
            return list(islice(members, most + 1))
    raise Unusable(f"{what}, not {kind(value)}.")


def rows(value: Any) -> Sequence[Any]:
    """Return what ``preprocess`` made of a request: one or more rows."""
    found = listed(value, "preprocess() must return a sequence of rows", MOST_ROWS)
    if len(found) > MOST_ROWS:
        raise Unusable(f"preprocess() returned more than {MOST_ROWS} rows.")
    return found


def samples(value: Any, count: int) -> Sequence[Any]:
    """Return what ``sample_rows`` gave: ``count`` rows."""
    found = listed(value, f"sample_rows({count}) must return a sequence of {count} rows", count)
    if len(found) != count:
        shown = len(found) if len(found) <= count else f"more than {count}"
        raise Unusable(f"sample_rows({count}) must return {count} rows, not {shown}.")
    return found


def outputs(value: Any, count: int) -> Any:
    """Return what ``run`` made of ``count`` rows: a sequence or an array with one output per row."""
    if hasattr(value, "shape") and hasattr(value, "__getitem__"):  # an array or a tensor, which slices quickly
        found = value
        if len(value.shape) == 0:
            raise Unusable(f"run() must return one output per row, not a single number for {count} rows.")
    else:
        found = listed(value, "run() must return a sequence with one output per row", count)
    if len(found) != count:
        shown = len(found) if len(found) <= count else f"more than {count}"
        raise Unusable(f"run() returned {shown} outputs for {count} rows.")
    return found


def precisions(value: Any) -> Sequence[str]:
    """Return what ``precisions`` named: one or more of the settings' values, without ``auto``."""
    found = texts(value, "precisions()")
    unknown = [name for name in found if name not in PRECISIONS or name == "auto"]
    if unknown or not found:
        known = ", ".join(name for name in PRECISIONS if name != "auto")
        raise Unusable(f"precisions() must name some of {known}, not {unknown[0][:80] if unknown else 'nothing'}.")
    return found


def texts(value: Any, whose: str) -> tuple[str, ...]:
    """Return a sequence of texts as a tuple of plain strings."""
    found = listed(value, f"{whose} must be a sequence of texts", MOST_LABELS)
    for index, one in enumerate(found):
        if not isinstance(one, str):
            raise Unusable(f"{whose} must be texts, but number {index} is {kind(one)}.")
    plain = tuple(str(one) for one in found)
    for index, text in enumerate(plain):
        _check_sendable(text, f"number {index} of {whose}")
    return plain


def _check_sendable(text: str, whose: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{whose} holds half a character (a lone surrogate), which no message can hold.") from None


def seconds(value: Any) -> float | None:
    """Return what ``device_busy_s`` counted; None for no count, and for what is none."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) and number >= 0 else None


def description(value: Any) -> Description:
    """Return what ``describe`` said, as plain values."""
    if not isinstance(value, Description):
        raise Unusable(f"describe() must return a Description, not {kind(value)}.")
    labels = None if value.labels is None else texts(value.labels, "labels of the Description")
    if labels is not None and not labels:
        raise Unusable("labels of the Description must be None for a model without classes, not empty.")
    return Description(
        _specs(value.inputs, "inputs"),
        _specs(value.outputs, "outputs"),
        _content_types(value.content_types),
        labels,
        texts(value.warnings, "warnings of the Description"),
        _unit(value.unit),
        value.gives_tensors is True,
        None if value.most_units is None else _most_units(value.most_units),
        value.pads_rows is True,
        texts((value.task,), "task of the Description")[0],
        None if value.context is None else _most_units(value.context, "context"),
    )


def _most_units(value: Any, member: str = "most_units") -> int:
    try:
        most = operator.index(value)
    except TypeError:
        most = 0
    if not 1 <= most < 1 << 31:
        raise Unusable(f"{member} of the Description must be None or a whole number from 1 to 2147483647.")
    return most


def _unit(value: Any) -> str:
    if not isinstance(value, str) or not _UNIT.fullmatch(value):
        raise Unusable("unit of the Description must be a word of at most 32 letters, such as token.")
    return str(value)


def _content_types(value: Any) -> tuple[str, ...]:
    """Return media types as requests name them: in small letters, without parameters."""
    found = texts(value, "content_types of the Description")
    plain = tuple(dict.fromkeys(one.partition(";")[0].strip().lower() for one in found))
    for one in plain:
        if not _MEDIA_TYPE.fullmatch(one):
            raise Unusable(
                f"content_types of the Description must be media types such as text/plain, not {one[:80]!r}."
            )
        if one in ENVELOPES:
            raise Unusable(f"content_types of the Description cannot have {one}: a body of that type holds inputs.")
    return plain


def _specs(value: Any, whose: str) -> tuple[TensorSpec, ...]:
    found = listed(value, f"{whose} of the Description must be a sequence of TensorSpecs", MOST_ROWS)
    specs = tuple(_spec(one, f"{whose}[{index}] of the Description") for index, one in enumerate(found))
    twice = _repeated(spec.name for spec in specs)
    if twice is not None:
        raise Unusable(f"{whose} of the Description have the name {twice[:80]} twice.")
    return specs


def _spec(value: Any, whose: str) -> TensorSpec:
    if not isinstance(value, TensorSpec):
        raise Unusable(f"{whose} must be a TensorSpec, not {kind(value)}.")
    if not isinstance(value.name, str) or not 1 <= len(value.name) <= MAX_TEXT:
        raise Unusable(f"{whose} must have a name of 1 to {MAX_TEXT} characters.")
    _check_sendable(str(value.name), f"the name of {whose}")
    if not isinstance(value.datatype, str) or value.datatype not in DATATYPES:
        raise Unusable(f"{whose} must have one of the datatypes {', '.join(DATATYPES)}.")
    return TensorSpec(str(value.name), str(value.datatype), _sizes(value.shape, whose))


def _sizes(value: Any, whose: str) -> tuple[int, ...]:
    what = f"{whose} must have a shape of at most {MAX_DIMENSIONS - 1} whole numbers, -1 for any size"
    try:
        sizes = tuple(operator.index(size) for size in listed(value, what, MAX_DIMENSIONS))
    except TypeError:
        raise Unusable(f"{what}.") from None
    if len(sizes) >= MAX_DIMENSIONS or any(not -1 <= size < 1 << 31 for size in sizes):
        raise Unusable(f"{what}.")
    return sizes


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def units(value: Any) -> int:
    """Return how many units a row has."""
    try:
        count = operator.index(value)
    except TypeError:
        raise Unusable(f"units() must return a whole number of at least 1, not {kind(value)}.") from None
    if not 1 <= count < 1 << 31:
        raise Unusable("units() must return a whole number from 1 to 2147483647.")
    return count


def whole(value: Any) -> int:
    """Return a count; 0 for what is none."""
    return max(0, operator.index(value))
