"""Clients that wait for later requests of one lane: what each knows, and when it changes. No I/O.

A client's listener holds only the latest, never a list of what it has missed: a client that reads slowly, or not at
all, costs the same as any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from shared.wire.outcomes import UNKNOWN_OUTCOME

from .jobs import Job, State, state_of


class Listener:
    """One client that waits for one later request. Each that is made must be closed.

    Attributes:
        request_id: what it waits for.
        state: how the request stands, as last heard; None until that is known.
        position: its place among the lane's open later requests; 0 unless it is queued.
        code: outcome with which it ended; empty while it is open.
        is_over: the front end stops, so nothing more will be heard.
    """

    __slots__ = ("_changed", "_entry", "_of", "_seq", "code", "is_over", "position", "request_id", "state")

    def __init__(self, of: Listeners, request_id: str) -> None:
        self._of, self.request_id = of, request_id
        self._changed = asyncio.Event()
        self._entry, self._seq = (0, 0), 0
        self.state: State | None = None
        self.position, self.code, self.is_over = 0, "", False

    @property
    def has_ended(self) -> bool:
        """Whether the request has ended, as far as is known."""
        return self.state is not None and not self.state.is_open

    def seen(self, job: Job) -> None:
        """Take in a record."""
        self._entry, self._seq = _numbers(job.entry), job.seq
        self._set(job.state, job.position, job.code)

    def ended(self, code: str) -> None:
        """Take in how it ended."""
        self._set(state_of(code), 0, code)

    def moved(self, ended: int, claimed: tuple[int, int]) -> None:
        """Take in how far the lane has come: how many have ended, and the last entry that a consumer has claimed."""
        if self.state is State.QUEUED and self._entry <= claimed:
            self._set(State.RUNNING, 0, "")
        elif self.state is State.QUEUED:
            self._set(State.QUEUED, max(1, self._seq - ended), "")

    def stop(self) -> None:
        """Hear nothing more."""
        self.is_over = True
        self._changed.set()

    def _set(self, state: State, position: int, code: str) -> None:
        if self.has_ended or (state, position) == (self.state, self.position):
            return
        if self.state is State.RUNNING and state is State.QUEUED:
            return
        self.state, self.position, self.code = state, position, code
        self._changed.set()

    async def change(self, limit_s: float) -> bool:
        """Wait until something has changed since this was last asked, or the time is over; says which."""
        if not self._changed.is_set():
            try:
                async with asyncio.timeout(limit_s):
                    await self._changed.wait()
            except TimeoutError:
                return False
        self._changed.clear()
        return True

    async def end(self, limit_s: float) -> None:
        """Wait until it has ended, the front end stops, or the time is over."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + limit_s
        while not (self.has_ended or self.is_over) and (left_s := end_s - loop.time()) > 0:
            await self.change(left_s)

    def close(self) -> None:
        """The client does not wait any more."""
        self._of.remove(self)


class Listeners:
    """All listeners of one lane, by the request that they wait for."""

    def __init__(self) -> None:
        self._by_id: dict[str, list[Listener]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_id.values()))

    def add(self, request_id: str) -> Listener:
        """Begin to listen."""
        made = Listener(self, request_id)
        self._by_id.setdefault(request_id, []).append(made)
        return made

    def remove(self, listener: Listener) -> None:
        """Stop; a second time does nothing."""
        same_id = self._by_id.get(listener.request_id, [])
        if listener in same_id:
            same_id.remove(listener)
            if not same_id:
                del self._by_id[listener.request_id]

    def ids(self) -> Sequence[str]:
        """Return the requests that are waited for."""
        return tuple(self._by_id)

    def ended(self, request_id: str, code: str) -> None:
        """Tell those that wait for a request how it ended."""
        for one in self._by_id.get(request_id, ()):
            one.ended(code)

    def seen(self, jobs: Mapping[str, Job | None]) -> None:
        """Tell what records say. One that was there and is gone is a request that the server has lost."""
        for request_id, job in jobs.items():
            for one in self._by_id.get(request_id, ()):
                if job is not None:
                    one.seen(job)
                elif one.state is not None:
                    one.ended(UNKNOWN_OUTCOME.code)

    def moved(self, ended: int, claimed: bytes) -> None:
        """Tell how far the lane has come."""
        numbers = _numbers(claimed)
        for one in self._all():
            one.moved(ended, numbers)

    def stop(self) -> None:
        """Tell all that nothing more will be heard."""
        for one in list(self._all()):
            one.stop()

    def _all(self) -> Iterable[Listener]:
        return (one for same_id in self._by_id.values() for one in same_id)


def _numbers(entry: bytes) -> tuple[int, int]:
    """Return the two numbers of an entry's id, by which entries are ordered."""
    first, _, second = entry.partition(b"-")
    return (int(first), int(second)) if first.isdigit() and second.isdigit() else (0, 0)
