"""Batches that do not fit into memory are run in parts. Pure: how a part is run is a parameter."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

log = logging.getLogger(__name__)


class _NoRoom(Enum):
    """What stands for the outputs of a part that did not fit. Private: a model can return anything else, None too."""

    NO_ROOM = auto()


class Outputs(Protocol):
    """One output per row, in a list or an array."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


OutputsT = TypeVar("OutputsT", bound=Outputs)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether ``error`` tells of a lack of memory, on the host or on a GPU."""
    if isinstance(error, MemoryError) or any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    # torch's allocator for the CPU raises a bare RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


class OomSplitting(Generic[OutputsT]):
    """Runs rows in parts of at most ``most`` rows, a number that is halved for good whenever memory runs out.

    If even one row is too much, the row is the cause and not the number of rows, so the number goes back to what it was
    before the call: a single request must not make all later batches small.

    Args:
        run: runs a part, returns one output per row.
        most: rows of the largest part, at first.
        recover: called between a failure and the next try, outside of the ``except`` block: while an error is being
            handled, its traceback keeps the tensors of the failed attempt alive.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Any]], OutputsT],
        most: int = sys.maxsize,
        recover: Callable[[], None] = lambda: None,
    ) -> None:
        self._run, self._recover = run, recover
        self._first = self.most = most

    @property
    def working_rows(self) -> int | None:
        """How many rows at most are run at once since memory ran out; None while it never did."""
        return None if self.most == self._first else self.most

    def __call__(self, rows: Sequence[Any]) -> OutputsT:
        """Return the outputs of ``rows``, in order.

        Raises:
            ValueError: ``run`` did not return one output per row.
            Exception: whatever ``run`` raises, a lack of memory for a single row included.
        """
        parts: list[OutputsT] = []
        done, before = 0, self.most
        while done < len(rows):
            part = rows[done : done + self.most]
            count = len(part)  # known before: what runs them may use them up
            outputs = self._attempt(part, before)
            if outputs is _NoRoom.NO_ROOM:
                self._recover()
                self.most = max(1, count // 2)
                log.warning("Memory ran out at %d rows; from here on at most %d run at once.", count, self.most)
                continue
            if len(outputs) != count:  # the next part's outputs would fill the gap
                raise ValueError(f"the model returned {len(outputs)} outputs for {count} rows")
            parts.append(outputs)
            done += count
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _attempt(self, part: Sequence[Any], before: int) -> OutputsT | _NoRoom:
        """Run a part, or say that memory ran out and fewer rows may do."""
        count = len(part)
        try:
            return self._run(part)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if count < 2:
                self.most = before
                raise
        return _NoRoom.NO_ROOM


def _joined(parts: list[OutputsT]) -> OutputsT:
    numpy = sys.modules.get("numpy")  # not imported for models that do without it
    if numpy is not None and all(isinstance(part, numpy.ndarray) for part in parts):
        joined: Any = numpy.concatenate(parts)
    else:
        joined = list(chain.from_iterable(parts))
    return joined  # type: ignore[no-any-return]
