"""How far do two answers to the same request lie apart? Pure.

The distance is the least tolerance at which they count as equal: 0 for equal answers, infinite where no tolerance makes
up for what differs. Numbers with a fraction may differ by a share of the largest of their array, or of their row's
scores. The likeliest label may change only where the first two scores lie that close together. Whole numbers, text,
names, shapes and datatypes must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Distance:
    """How far two answers lie apart, and where they do most; `what` is empty for equal ones."""

    value: float = 0.0
    what: str = ""


EQUAL = Distance()


def farthest(distances: Iterable[Distance]) -> Distance:
    """Return the largest, and the first of several; `EQUAL` of none."""
    largest = max(distances, key=lambda distance: distance.value, default=EQUAL)
    return largest if largest.value else EQUAL


def distance(base: Any, candidate: Any) -> Distance:
    """Compare the `predictions` and `outputs` of two parsed answers; ids, times and the rest do not count."""
    found = []
    for name, compare in (("predictions", _predictions), ("outputs", _outputs)):
        ours, theirs = _member(base, name), _member(candidate, name)
        if isinstance(ours, list) and isinstance(theirs, list):
            found.append(compare(ours, theirs))
        elif ours != theirs:
            found.append(_apart(f"{name} are there in only one of them"))
    return farthest(found)


def _predictions(ours: Sequence[Any], theirs: Sequence[Any]) -> Distance:
    ranked = _by_row(ours), _by_row(theirs)
    if None in ranked:  # no classes with scores, but whatever the service calls predictions
        return _values(ours, theirs, "predictions", whole_too=False)
    before, after = ranked
    assert before is not None
    assert after is not None
    if before.keys() != after.keys():
        return _apart(f"predictions for {len(after)} rows instead of {len(before)}")
    return farthest(_ranking(before[row], after[row], f"row {row}") for row in before)


_Class = tuple[Any, Any]
_Ranking = dict[_Class, float]


def _by_row(predictions: Sequence[Any]) -> dict[Any, _Ranking] | None:
    """Return the score of each class of each row, best first; None where predictions are something else.

    A class is its label and its index: of ImageNet's labels some occur twice.
    """
    rows: dict[Any, _Ranking] = {}
    for entry in predictions:
        label, index, score = (_member(entry, name) for name in ("label", "index", "score"))
        if not isinstance(label, str) or not isinstance(index, int) or not _is_number(score):
            return None
        rows.setdefault(_member(entry, "row", 0), {})[label, index] = float(score)
    return rows


def _ranking(ours: _Ranking, theirs: _Ranking, row: str) -> Distance:
    """Compare the scores of one row. What only one of the two lists has at most the other's lowest score there."""
    scale = max(map(abs, ours.values()))
    if len(ours) != len(theirs) or not scale:
        return EQUAL if ours == theirs else _apart(f"the scores of {row}")
    found = []
    first, now = next(iter(ours)), next(iter(theirs))
    if first != now:
        # A list of one says nothing of the others.
        margin = ours[first] - ours.get(now, min(ours.values()) if len(ours) > 1 else 0.0)
        found.append(Distance(max(margin, 0.0) / scale, f"{_shown(now[0])} instead of {_shown(first[0])} in {row}"))
    lowest, lowest_now = min(ours.values()), min(theirs.values())
    for one in ours | theirs:
        mine, other = ours.get(one, lowest), theirs.get(one, lowest_now)
        off = abs(mine - other) if one in ours and one in theirs else max(0.0, *_beyond(ours, theirs, one))
        what = f"the score of {_shown(one[0])} in {row}, {other:.4g} instead of {mine:.4g}"
        found.append(Distance(off / scale, what))
    largest = farthest(found)
    # That another label is the likeliest says more than by how much.
    return largest if first == now else Distance(max(largest.value, found[0].value), found[0].what)


def _beyond(ours: _Ranking, theirs: _Ranking, one: _Class) -> tuple[float, float]:
    """Return by how much a class that only one list has exceeds what it can have in the other."""
    here, there = ours.get(one), theirs.get(one)
    return (
        0.0 if here is None else here - min(theirs.values()),
        0.0 if there is None else there - min(ours.values()),
    )


def _outputs(ours: Sequence[Any], theirs: Sequence[Any]) -> Distance:
    if len(ours) != len(theirs):
        return _apart(f"{len(theirs)} outputs instead of {len(ours)}")
    return farthest(_output(mine, other) for mine, other in zip(ours, theirs, strict=True))


def _output(mine: Any, other: Any) -> Distance:
    name = f"output {_shown(_member(mine, 'name'))}"
    for part in ("name", "datatype", "shape"):
        before, after = _member(mine, part), _member(other, part)
        if before != after:
            return _apart(f"the {part} of {name}, {_shown(after)} instead of {_shown(before)}")
    if isinstance(mine, Mapping) and isinstance(other, Mapping) and "data" in mine and "data" in other:
        return _values(mine["data"], other["data"], name, str(mine.get("datatype")).startswith(("FP", "BF")))
    return _values(mine, other, name, whole_too=False)


def _values(mine: Any, other: Any, name: str, whole_too: bool) -> Distance:
    """Compare whatever JSON holds.

    Args:
        whole_too: whether numbers that are written without a fraction may differ as well.
    """
    ours, theirs = list(_leaves(mine)), list(_leaves(other))
    if [path for path, _ in ours] != [path for path, _ in theirs]:
        return _apart(f"the form of {name}")
    tolerant = (int, float) if whole_too else (float,)
    scale = max((abs(value) for _, value in ours if isinstance(value, tolerant)), default=0.0)
    largest = EQUAL
    for (path, before), (_, after) in zip(ours, theirs, strict=True):
        if before == after:
            continue
        what = f"{name}{path}, {_shown(after)} instead of {_shown(before)}"
        if not (isinstance(before, tolerant) and isinstance(after, tolerant)) or not scale:
            return _apart(what)
        off = abs(after - before) / scale
        if off > largest.value:
            largest = Distance(off, what)
    return largest


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that holds no others, with the way to it."""
    stack = [(path, value)]
    while stack:
        here, found = stack.pop()
        if isinstance(found, Mapping):
            stack += [(f"{here}.{key}", part) for key, part in sorted(found.items(), reverse=True)]
        elif isinstance(found, list):
            stack += [(f"{here}[{index}]", part) for index, part in reversed(list(enumerate(found)))]
        else:
            yield here, found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _apart(what: str) -> Distance:
    return Distance(math.inf, what)


def _member(value: Any, name: str, default: Any = None) -> Any:
    return value.get(name, default) if isinstance(value, Mapping) else default


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
