"""What a consumer needs of a queue. ``redis_stream.py`` is the real one; ``tests/fake_stream.py`` has one in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol

import msgspec

from shared.keys import DEFAULT_LANE
from shared.redis.clock import RedisClock
from shared.state.cards import Card
from shared.state.desired_state import DesiredPrecision, Serving
from shared.state.lanes import LaneBytes

Claim = tuple[str, bytes]
"""What names an entry: its lane and its id there. Entries of two lanes may have the same id."""

FUTURE_MS = 5_000
"""An entry whose id is further ahead of Redis's clock than this was not given it by Redis, unless that clock was set
back. In ``default`` it counts as added now; a direct producer's lane is its own to spoil."""


NO_ROOM = -2
"""What ``commit`` says of a reply for whose bytes its lane has no room: nothing was done, and its request is to end
with another reply."""


class StreamDown(Exception):
    """The queue did not answer; the same call may succeed later."""


class StreamGone(Exception):
    """The stream or its group is missing; the next heartbeat makes them again."""


class Entry(msgspec.Struct, frozen=True):
    """One claimed entry of a work stream.

    Attributes:
        entry_id: its id in the stream of its lane.
        added_ms: when it was added, in ms on Redis's clock.
        message: the request as it was sent; None when the entry has no such field.
        attempt: how often it has been delivered, this time included. Being taken over does not count until it runs.
        charged: what its lane was charged for it, in what requests cost; 0 if it was taken while no others competed.
    """

    entry_id: bytes
    added_ms: int
    message: bytes | None
    attempt: int = 1
    lane: str = DEFAULT_LANE
    charged: float = 0.0

    @property
    def claim(self) -> Claim:
        """What names it among all entries."""
        return self.lane, self.entry_id


class Completion(msgspec.Struct, frozen=True):
    """One request that has come to its end, as ``commit`` takes it.

    Attributes:
        reply: the encoded reply.
        reply_to: instance whose reply stream gets a hint; empty for none.
        expiry_ms: how long the reply stays readable; 0 stores nothing and only hints.
    """

    entry_id: bytes
    request_id: str
    reply_to: str
    expiry_ms: int
    reply: bytes
    lane: str = DEFAULT_LANE

    @property
    def claim(self) -> Claim:
        """What names its entry among all."""
        return self.lane, self.entry_id


class Emission(msgspec.Struct, frozen=True):
    """A part of an answer that is still being made, as ``emit`` takes it.

    Attributes:
        reply_to: instance whose reply stream gets it, too; empty for none.
        expiry_ms: how long the record stays from now on; 0 leaves that as it is, which the first frame may not.
        seq: number of the frame in its record, from 0.
        frame: encoded, see ``shared/wire/frames.py``.
    """

    entry_id: bytes
    request_id: str
    reply_to: str
    expiry_ms: int
    seq: int
    frame: bytes
    lane: str = DEFAULT_LANE

    @property
    def claim(self) -> Claim:
        """What names its entry among all."""
        return self.lane, self.entry_id


class Record(NamedTuple):
    """What has been written of a generation: its frames, encoded, and when the first one was, on Redis's clock."""

    frames: Sequence[bytes]
    began_ms: int


class Emitted(IntEnum):
    """What became of a frame.

    Attributes:
        LOST: the entry is not this worker's any more: it was cancelled, or another one has it.
        WRITTEN: by this call.
        REPEATED: it was there before.
        TAKEN: the id is answered, or another entry of this id writes the record; this one is to run without frames.
        GONE: frames before this one are missing; there can be no more.
        FULL: the server has no memory for it now; it may be written later.
        REFUSED: Redis did not take it.
    """

    LOST = 0
    WRITTEN = 1
    REPEATED = 2
    TAKEN = 3
    GONE = 4
    FULL = 5
    REFUSED = 6


class Cause(StrEnum):
    """Why something is a dead letter.

    Attributes:
        CRASHED: consumers died while it ran alone.
        UNREADABLE: it is no request.
        FUTURE_ID: the id of its entry lies in the future, in a lane of its own.
    """

    CRASHED = "crashed"
    UNREADABLE = "unreadable"
    FUTURE_ID = "future_id"


class Dead(msgspec.Struct, frozen=True):
    """One request that ends as a dead letter.

    Attributes:
        completion: the sender's reply; an empty ``request_id`` if there can be none.
        reason: one sentence for the operator.
        crashes: how often a consumer died while it ran alone.
    """

    completion: Completion
    reason: str
    crashes: int

    @property
    def cause(self) -> Cause:
        """What the metrics call the reason."""
        if not self.completion.request_id:
            return Cause.UNREADABLE
        return Cause.CRASHED if self.crashes else Cause.FUTURE_ID


@dataclass(frozen=True, slots=True)
class Depth:
    """What waits in a lane: unclaimed entries, claimed entries, age of the oldest in seconds.

    Attributes:
        bytes: what the lane takes, None where that is not known.
    """

    backlog: int
    pending: int
    oldest_age_s: float
    bytes: LaneBytes | None = None


class Records(Protocol):
    """The records of the generations that one consumer runs.

    Methods may be called from several threads, ``emit`` from one at a time. Every one raises ``StreamDown`` when the
    queue does not answer.
    """

    def emit(self, frames: Sequence[Emission]) -> list[Emitted]:
        """Write frames of generations that this worker holds, each once, and hint at them; returns what became of each.

        Repeating a call after an error is harmless.
        """

    def record(self, claim: Claim, request_id: str) -> Record | None:
        """Return the record of a generation; None where this entry has none."""

    def hand_over(self, claims: Sequence[Claim]) -> int:
        """Let the leases of entries end at once, so that another consumer takes them over; returns how many."""


class Claiming(Protocol):
    """Claims entries of some of a model's lanes, for one thread at a time.

    Every method raises ``StreamDown`` when the queue does not answer.
    """

    @property
    def lanes(self) -> Sequence[str]:
        """The lanes that are read; there may be none."""

    @property
    def hurries(self) -> bool:
        """Whether nothing that these lanes hold may wait for gaps; always False of ordinary ones.

        Of a lane it says so that something in it is urgent, wherever that lies there; other batch lanes are not read
        meanwhile.
        """

    def read(self, max_entries: int, *, wait: bool = True) -> list[Entry]:
        """Claim up to ``max_entries`` new entries; waits a bounded time for the first.

        Where that wait ends with the first entries of several lanes at once, it is one of each.

        Args:
            wait: False takes what is there.

        Raises:
            StreamGone: the stream or group is missing.
        """

    def has_several_lanes(self) -> bool:
        """Say whether more than one lane is read."""

    def read_priority(self, most: float, present: Mapping[str, float]) -> list[Entry]:
        """Claim entries that go ahead into a full batch, of lanes with less than their share of it; does not wait.

        Args:
            most: what the batch holds, in what requests cost.
            present: what waits for it already, by lane.
        """

    def charge(self, entry: Entry, cost: float) -> None:
        """Note what an entry has cost for which its lane was charged something: rows, or tokens. Never waits."""

    def commit_and_read(
        self, completions: Sequence[Completion], committed: Callable[[], None], max_entries: int, *, wait: bool = True
    ) -> list[Entry]:
        """End requests as :meth:`commit` does and claim new entries, in one round trip.

        Args:
            completions: what to end.
            committed: called as soon as that has succeeded. When it has not been called, ``completions`` are to be
                committed again, whether this returned or raised.
            max_entries, wait: as for :meth:`read`, whose errors this raises, too.
        """

    def reclaim(self, max_entries: int) -> list[Entry]:
        """Claim entries whose lease has run out. They are to run alone, each after a :meth:`begin_isolated`."""

    def end_answered(self, completions: Sequence[Completion]) -> list[bool]:
        """End those whose id has a reply already; its sender is told to look. False: it has none and is to run."""

    def hears_of_hand_overs(self) -> bool:
        """Say whether :meth:`terminations` has told, since this was asked last, that consumers handed entries over."""


class WorkStream(Claiming, Protocol):
    """The work of one model, seen from one consumer: a stream for each lane.

    What it claims is of ordinary lanes; :attr:`batch` claims of those of kind ``batch``.

    The lanes are those that the latest heartbeat found; before the first it is ``default`` alone. While several
    compete, new entries are claimed so that what they cost is in proportion to the lanes' weights.

    Methods may be called from several threads. Every one raises ``StreamDown`` when the queue does not answer.
    """

    clock: RedisClock

    @property
    def batch(self) -> Claiming:
        """What claims entries of lanes of kind ``batch``: on another thread, and never instead of the others."""

    @property
    def records(self) -> Records:
        """The records of generations."""

    def measure(self, entry: Entry, tokens: float) -> None:
        """Note how many tokens the prompt of an entry has: from that follows what a token takes in bytes."""

    def begin_isolated(self, entry: Entry) -> bool:
        """Count the delivery ``entry.attempt`` of a reclaimed entry, just before it runs alone.

        Thus only crashes of an entry that ran alone count against it. False: it is not this worker's any more.
        """

    def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Renew the leases of claimed entries; returns those that this worker no longer owns."""

    def commit(self, completions: Sequence[Completion]) -> list[int]:
        """End requests atomically, one by one: 1 done by this call, 0 no longer ours, 2 already answered, -1 refused,
        and ``NO_ROOM``.

        Repeating a call after an error is harmless.
        """

    def dead_letter(self, dead: Sequence[Dead]) -> list[int]:
        """End requests as :meth:`commit` does and keep their messages as dead letters; same statuses."""

    def reap(self) -> int:
        """Take consumers out of the group that died long ago and hold nothing; returns how many."""

    def heartbeat(self, card: Card, state: Mapping[str, str]) -> None:
        """Say that this worker lives, publish the card, find the lanes, make their streams and groups where missing,
        read Redis's clock."""

    def ask_time(self) -> None:
        """Read Redis's clock, which every heartbeat does, too."""

    def leave(self) -> None:
        """Take this worker off the list."""

    def terminations(self) -> list[Claim]:
        """Wait a bounded time for news of entries that ended without a consumer, such as by being cancelled.

        Each is told once. For one thread at a time.
        """

    def desired_precision(self) -> DesiredPrecision | None:
        """Return what an operator last asked for, None for nothing."""

    def serving(self) -> Serving:
        """Return whether an operator has paused the model, or drains it."""

    def take_turn(self) -> bool:
        """Say whether this worker has the turn to switch; takes or keeps it for a lease if no other worker has it.

        Two may have it for a moment when a lease runs out; that costs capacity and nothing else.
        """

    def end_turn(self) -> None:
        """Let the next worker have its turn; nothing if it is not this worker's."""

    def depth(self) -> dict[str, Depth]:
        """Measure what waits, by lane."""

    def close(self) -> None:
        """Close every connection."""
