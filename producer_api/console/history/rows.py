"""What is written into the ring: a row by each front end for ten seconds in which something happened. Pure.

Rows are msgpack lists; a later version may append members, and one that is none of ours is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from producer_api.console.feed.counts import Counts
from shared.metrics.waits import WAIT_BOUNDS_S
from shared.names import is_name
from shared.state.lanes import MOST_LANES

STEP_MS: Final = 10_000
DAY_SLOTS: Final = 86_400_000 // STEP_MS
FIELD: Final = b"r"
MOST_ROW_BYTES: Final = 64 * 1024
"""As many lanes as a model may have, with names as long as they may be, and waits in every bucket, take less."""

MOST_COUNT: Final = 1 << 53


class LaneRow(Struct, frozen=True, array_like=True):
    """What became of the requests of a lane, as in :class:`producer_api.console.feed.counts.Counts`."""

    ended: int
    ok: int
    errors: int
    good: float
    waits: dict[int, int]

    def counts(self) -> Counts:
        """Return it with what can be true only."""
        waits = {at: min(n, MOST_COUNT) for at, n in self.waits.items() if 0 <= at <= len(WAIT_BOUNDS_S) and n > 0}
        ended, ok, errors = (max(0, min(one, MOST_COUNT)) for one in (self.ended, self.ok, self.errors))
        return Counts(ended, ok, errors, max(0.0, min(self.good, float(ok))), waits)


class LaneGauge(Struct, frozen=True, array_like=True):
    """A lane at the end of the ten seconds: its requests, and how many have ever ended; None where that is unknown."""

    depth: int
    done: int | None


class Gauges(Struct, frozen=True, array_like=True):
    """What belongs to no front end, written by the one that holds the lease.

    Attributes:
        workers: how many live.
        busy: mean share of the time in which their devices ran batches; None where none says.
        batch: mean rows of their batches.
    """

    workers: int
    busy: float | None
    batch: float | None
    lanes: dict[str, LaneGauge]


class Row(Struct, frozen=True, array_like=True):
    """One row.

    Attributes:
        slot: the ten seconds that it is about, counted from 1970 on Redis's clock.
        now: the slot that had just ended when it was written; a later one than ``slot`` if Redis was away.
        who: the front end.
        covered_ms: what was counted in so many ms.
        watched: for so many slots before, this front end was there and had nothing to write.
        lanes: what it has counted, by lane.
        gauges: None where another one holds the lease, or nothing has changed.
    """

    slot: int
    now: int
    who: str
    covered_ms: int
    watched: int
    lanes: dict[str, LaneRow]
    gauges: Gauges | None = None


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Row)


def lane_rows(counts: Mapping[str, Counts]) -> dict[str, LaneRow]:
    """Return the counts of lanes as a row has them."""
    return {
        lane: LaneRow(one.ended, one.ok, one.errors, round(one.good, 2), dict(one.waits))
        for lane, one in counts.items()
    }


def encode(row: Row) -> bytes:
    """Encode a row."""
    return _encoder.encode(row)


def decode(message: Any) -> Row | None:
    """Decode a row; None for what is none."""
    if not isinstance(message, bytes) or len(message) > MOST_ROW_BYTES:
        return None
    try:
        row = _decoder.decode(message)
    except (msgspec.DecodeError, RecursionError):
        return None
    gauged = row.gauges.lanes if row.gauges is not None else {}
    names = [*row.lanes, *gauged]
    if max(len(row.lanes), len(gauged)) > MOST_LANES:
        return None
    is_sound = 0 < row.slot <= MOST_COUNT and 0 < row.now <= MOST_COUNT and row.covered_ms > 0 and row.watched >= 0
    return row if is_sound and all(map(is_name, names)) else None


def messages_of(answer: Any) -> list[tuple[bytes, bytes]]:
    """Return the encoded rows, and the ids of their entries, of what XRANGE or XREVRANGE answered."""
    found: list[tuple[bytes, bytes]] = []
    for entry_id, fields in answer if isinstance(answer, list) else ():
        at: Iterable[int] = range(0, len(fields or ()) - 1, 2)
        message = next((fields[one + 1] for one in at if fields[one] == FIELD), None)
        if isinstance(message, bytes) and len(message) <= MOST_ROW_BYTES:
            found.append((entry_id, message))
    return found


def rows_of(answer: Any) -> list[tuple[bytes, Row]]:
    """Read the rows, and the ids of their entries, of what XRANGE or XREVRANGE answered."""
    read = ((entry_id, decode(message)) for entry_id, message in messages_of(answer))
    return [(entry_id, row) for entry_id, row in read if row is not None]


def pieces(messages: Iterable[bytes], most_bytes: int) -> Iterator[list[Row]]:
    """Decode rows a piece at a time: so many that reading and merging them takes no longer than ``most_bytes`` do."""
    piece: list[Row] = []
    taken = 0
    for message in messages:
        row = decode(message)
        if row is not None:
            piece.append(row)
        taken += len(message)
        if taken >= most_bytes:
            yield piece
            piece, taken = [], 0
    yield piece
