"""Reports the progress of loading a model: in the log now and then, and for operators all the time."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Protocol

from shared.state.starts import Phase

log = logging.getLogger(__name__)

SAY_EVERY_S = 10.0
_OURS = str(Path(__file__).parents[1])
_LIBRARIES = (sys.base_prefix, sys.prefix)


class Board(Protocol):
    """Where operators read how far a consumer's start is; see :class:`consumer.queue.redis_starts.RedisBoard`."""

    def tell(self, phase: Phase, for_s: float, detail: str = "") -> None:
        """Publish the phase, which began ``for_s`` seconds ago. It never raises: nothing depends on it."""


class StartWatch:
    """Watches the thread that loads a model.

    Args:
        name: the model's.
        board: gets a report at once and then every ``interval_s`` seconds.
        say_every_s: time between two lines in the log.
    """

    def __init__(self, name: str, board: Board, interval_s: float = 1.0, say_every_s: float = SAY_EVERY_S) -> None:
        self._name, self._board = name, board
        self._interval_s, self._say_every_s = interval_s, say_every_s

    @contextmanager
    def loading(self) -> Iterator[Callable[[], float]]:
        """Watch the calling thread while the block runs; gives how long that has been, in seconds."""
        begun_s, over, thread = monotonic(), threading.Event(), threading.get_ident()
        watch = threading.Thread(target=self._watch, args=(thread, begun_s, over), name="start", daemon=True)
        watch.start()
        try:
            yield lambda: monotonic() - begun_s
        finally:
            over.set()
            watch.join()  # the board is bounded in time; a late word must not follow the last one

    def _watch(self, thread: int, begun_s: float, over: threading.Event) -> None:
        said_s = begun_s
        while True:
            for_s, where = monotonic() - begun_s, place_of(thread)
            self._board.tell(Phase.LOADING, for_s, where)
            if monotonic() - said_s >= self._say_every_s:
                said_s = monotonic()
                log.info("Model %s is still being loaded, for %.0f s now: %s.", self._name, for_s, where)
            if over.wait(self._interval_s):
                return


def place_of(thread: int) -> str:
    """Say where a thread of this process is, such as ``load in /app/my_model.py, line 12``.

    That is the innermost place in code which is neither ours nor a library's, or else the innermost of all.
    """
    innermost = frame = sys._current_frames().get(thread)
    while frame is not None and _is_of_others(frame):
        frame = frame.f_back
    frame = frame or innermost
    if frame is None:
        return "its thread has ended"
    return f"{frame.f_code.co_name} in {frame.f_code.co_filename}, line {frame.f_lineno}"


def _is_of_others(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name.startswith((_OURS, *_LIBRARIES, "<frozen")) or "site-packages" in name
