"""The threads that make rows of pictures: a time limit for each, threads of their own for large ones, room for them.

A thread cannot be stopped. If a job takes too long, another thread answers it, and a new thread replaces the
abandoned one; its result, if it ever returns, is discarded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from consumer.pipeline.items import Item

from .job_queue import JobQueue

log = logging.getLogger(__name__)

MOST_LARGE = 16
"""Large ones that may wait for their turn."""

MOST_WRITTEN_OFF = 4
"""Threads that may hang before the process is to be renewed. They take memory and processor time from the others."""

LOOKS = 20
"""Checks of the time within the time limit."""

NewThread = Callable[[str, Callable[[], None]], threading.Thread]
Deliver = Callable[[], None]


@dataclass(eq=False, slots=True)
class Job:
    """Something to decode.

    Attributes:
        memory_bytes: what decoding a large one takes at its peak; 0 for any other, and until the header was read.
    """

    item: Item
    memory_bytes: int = 0

    @property
    def is_large(self) -> bool:
        """Say whether it was found to be large."""
        return self.memory_bytes > 0


class Decoders:
    """Runs jobs on two sets of threads: one for what is quick, and one for what others should not wait behind.

    Args:
        work: does a job and returns the next step; the step runs unless the job was given up meanwhile.
        give_up: told of a job that took longer than ``longest_s``, on another thread.
        no_room: told of a large job that is not done, because too many wait or too much memory is in use.
        worn_out: called when too many threads hang, perhaps more than once; the process should finish what it has.
        new_thread: makes a thread whose crash ends the process.
        threads: how many for quick jobs; half as many, but at least one, are for large ones.
        room_bytes: memory that all large jobs may take together; each must be smaller.
        name: what they do, in the names of the threads and in the log.
    """

    def __init__(
        self,
        work: Callable[[Job], Deliver],
        give_up: Callable[[Job], None],
        no_room: Callable[[Job], None],
        worn_out: Callable[[], None],
        new_thread: NewThread,
        threads: int,
        longest_s: float,
        room_bytes: int,
        name: str = "decode",
    ) -> None:
        self._name = name
        self._work, self._give_up, self._no_room = work, give_up, no_room
        self._worn_out, self._new_thread = worn_out, new_thread
        self._longest_s, self.room_bytes = longest_s, room_bytes
        self._quick, self._large = _Pool(name, threads), _Pool(f"{name}-large", max(1, threads // 2))
        self._changed = threading.Condition()
        self._running: dict[Job, _Run] = {}
        self._used_bytes = self._written_off = 0
        self._clock_s = 0.0
        self._over = threading.Event()

    @property
    def is_busy(self) -> bool:
        """Say whether a thread is at work, or hangs."""
        return bool(self._running) or self._written_off > 0

    @property
    def is_worn_out(self) -> bool:
        """Say whether as many threads hang as ``worn_out`` is called for."""
        return self._written_off >= MOST_WRITTEN_OFF

    def start(self) -> None:
        """Start all threads."""
        for pool in (self._quick, self._large):
            for _ in range(pool.threads):
                self._start_thread(pool)
        self._watcher = self._new_thread(f"{self._name}-watch", self._watch)
        self._watcher.start()

    def submit(self, job: Job) -> None:
        """Have a job done."""
        self._quick.jobs.put(job, is_later=job.item.is_later)

    def set_aside(self, job: Job) -> None:
        """Have a job done among the large ones. It is what ``work`` returns for one that turns out to be large."""
        with self._changed:
            has_room = self._large.waiting < MOST_LARGE
            self._large.waiting += has_room
        if has_room:
            self._large.jobs.put(job, is_later=job.item.is_later)
        else:
            self._no_room(job)

    def shutdown(self) -> None:
        """Finish all jobs but those that hang, and end the threads."""
        for pool in (self._quick, self._large):  # in this order: the first still fills the second
            for _ in range(pool.threads):
                pool.jobs.put(None)
            while crew := pool.present():
                crew[0].join(self._longest_s / LOOKS)  # it may be found to hang meanwhile
        self._over.set()
        self._watcher.join()

    def _start_thread(self, pool: _Pool) -> None:
        thread = self._new_thread(pool.name, lambda: self._serve(pool))
        pool.crew.append(thread)
        thread.start()

    def _serve(self, pool: _Pool) -> None:
        while self._do(pool, pool.jobs.get()):
            pass

    def _do(self, pool: _Pool, job: Job | None) -> bool:
        """Do a job; returns whether this thread continues. Nothing of a job stays here while the thread waits."""
        if job is None:
            return False
        if pool is self._large and not self._take_room(job):
            self._no_room(job)
            if job.item.is_later:
                pool.jobs.ended_later()
            return True
        with self._changed:
            self._running[job] = _Run(self._clock_s, pool, threading.current_thread())
        deliver = self._work(job)
        if not self._end(job, pool):
            return False  # written off: another has taken this thread's place
        deliver()
        return True

    def _take_room(self, job: Job) -> bool:
        """Wait until a job's memory is free; False when that takes too long, as where others hang."""

        def fits() -> bool:
            return self._used_bytes + job.memory_bytes <= self.room_bytes

        with self._changed:
            has_room = self._changed.wait_for(fits, self._longest_s)
            self._used_bytes += job.memory_bytes if has_room else 0
            self._large.waiting -= 1
            return has_room

    def _end(self, job: Job, pool: _Pool) -> bool:
        """Note that a job has ended; False if it was given up before."""
        with self._changed:
            run = self._running.pop(job, None)
            if run is None:
                self._written_off -= 1
            if pool is self._large:
                self._used_bytes -= job.memory_bytes
            self._changed.notify_all()
        if run is not None and job.item.is_later:
            pool.jobs.ended_later()
        return run is not None

    def _watch(self) -> None:
        """Look for jobs that take too long. A pause of the whole process is not their fault."""
        pause_s = self._longest_s / LOOKS
        before_s = monotonic()
        while not self._over.wait(pause_s):
            now_s = monotonic()
            self._clock_s += min(now_s - before_s, 2 * pause_s)
            before_s = now_s
            with self._changed:
                limit_s = self._clock_s - self._longest_s
                overdue = [job for job, run in self._running.items() if run.since_s < limit_s]
            for job in overdue:
                self._write_off(job)

    def _write_off(self, job: Job) -> None:
        with self._changed:
            run = self._running.pop(job, None)
            if run is None:
                return  # it has just ended
            self._written_off += 1
            count = self._written_off
        if job.item.is_later:
            run.pool.jobs.ended_later()
        log.error("Thread %s takes longer than %g s; another one takes its place.", self._name, self._longest_s)
        self._start_thread(run.pool)
        run.pool.crew.remove(run.thread)
        self._give_up(job)
        if count >= MOST_WRITTEN_OFF:
            log.error("%d threads %s hang.", count, self._name)
            self._worn_out()


class _Pool:
    """Jobs of one kind and the threads that do them: ``crew`` are those that have not been written off."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self.jobs: JobQueue[Job] = JobQueue(max(1, threads - 1))
        self.crew: list[threading.Thread] = []
        self.waiting = 0

    def present(self) -> list[threading.Thread]:
        """Return those that have not ended."""
        return [thread for thread in list(self.crew) if thread.is_alive()]


@dataclass(frozen=True, slots=True)
class _Run:
    """Since when a job runs, on the clock of the watch, and where."""

    since_s: float
    pool: _Pool
    thread: threading.Thread
