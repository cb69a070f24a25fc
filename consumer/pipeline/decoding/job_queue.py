"""Jobs of ordinary requests first, those of ``batch`` lanes when none of them waits."""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class _Look:
    """In the queue: look whether there is a job of a ``batch`` lane to do."""


_LOOK = _Look()


class JobQueue(Generic[T]):
    """Several threads take from it. Ordinary jobs pass through a plain queue, as if there were no others.

    Args:
        most_later: so many jobs of ``batch`` lanes are done at a time: one thread is left for what must not wait.
    """

    def __init__(self, most_later: int) -> None:
        self._jobs: queue.SimpleQueue[T | _Look | None] = queue.SimpleQueue()
        self._later: deque[T] = deque()
        self._lock = threading.Lock()
        self._most_later, self._running = most_later, 0
        self._put_off = 0

    def put(self, job: T | None, *, is_later: bool = False) -> None:
        """Add a job; None ends the thread that takes it, after all jobs that were added before."""
        if is_later and job is not None:
            self._later.append(job)
            self._jobs.put(_LOOK)
        else:
            self._jobs.put(job)

    def get(self) -> T | None:
        """Wait for the next job."""
        while True:
            found = self._jobs.get()
            if isinstance(found, _Look):
                found = self._first_behind() or self._take(self._most_later)
            elif found is None:
                found = self._take(None)  # at the end, what waits is done first
                if found is None:
                    return None
                self._jobs.put(None)
            if found is not None:
                return found

    def ended_later(self) -> None:
        """Note that a job of a ``batch`` lane has been done, or was given up."""
        with self._lock:
            self._running -= 1
            is_put_off = self._put_off > 0
            self._put_off -= is_put_off
        if is_put_off:
            self._jobs.put(_LOOK)

    def _first_behind(self) -> T | None:
        """Take an ordinary job that waits behind marks; what else is found goes back."""
        aside: list[_Look | None] = []
        job: T | None = None
        while job is None:
            try:
                found = self._jobs.get_nowait()
            except queue.Empty:
                break
            if found is None or isinstance(found, _Look):
                aside.append(found)
            else:
                job = found
        for mark in [*aside, _LOOK] if job is not None else aside:
            self._jobs.put(mark)
        return job

    def _take(self, most: int | None) -> T | None:
        """Take a job of a ``batch`` lane if fewer than ``most`` are being done; None for any number."""
        with self._lock:
            if not self._later:
                return None
            if most is not None and self._running >= most:
                self._put_off += 1
                return None
            self._running += 1
            return self._later.popleft()
