"""Claiming new entries where a model has several lanes: each lane gets its share of every read [I/O].

First a look at what waits in each lane, which costs the server hardly anything, then one claim per lane of as many
entries as its share is. Only where nothing waits is there a blocking read, on all lanes at once and of one entry, so
that a lane which fills at that moment does not fill the whole batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, TypeVar

from shared import keys
from shared.redis import functions
from shared.redis.client import ServerError, SyncLink
from shared.settings import Settings
from shared.state.cards import TOKEN, Card
from shared.state.lanes import LaneBytes, bytes_from

from .fair_share import FairShare
from .interface import Depth, Entry

T = TypeVar("T")

_FIELD = keys.MESSAGE_FIELD.encode()

MOST_FIELDS = 16
"""Among so many fields of an entry its message is looked for; a producer may have written a million."""


def milliseconds(entry_id: bytes) -> int:
    """Return the time in an entry's id."""
    return int(entry_id.partition(b"-")[0])


def _message(fields: Any) -> bytes | None:
    """Return the request of an entry's flat field list, None when there is none."""
    if not fields:
        return None
    for at in range(0, min(len(fields), 2 * MOST_FIELDS), 2):
        if fields[at] == _FIELD:
            return fields[at + 1]  # type: ignore[no-any-return]
    return None


def entries(answer: Any, lane: str, charged: float = 0.0) -> list[Entry]:
    """Make entries of XREADGROUP's answer for one stream, which is empty when nothing came."""
    if not answer:
        return []
    return [
        Entry(entry_id, milliseconds(entry_id), _message(fields), 1, lane, charged) for entry_id, fields in answer[0][1]
    ]


def depth(client: Any, model: str, lane: str, now_ms: float) -> Depth:
    """Look at one lane; ``now_ms`` is Redis's clock.

    Raises:
        RedisError: the server does not answer, or there is no such lane.
    """
    work = keys.work(model, lane)
    length = int(client.xlen(work))
    pending: Any = client.xpending(work, keys.GROUP)
    claimed = int(pending["pending"])
    oldest: Any = pending["min"]
    if not oldest:  # only then is a whole entry, which may be large, read for the sake of its id
        first: Any = client.xrange(work, count=1)
        oldest = first[0][0] if first else None
    age_ms = now_ms - milliseconds(oldest) if oldest else 0.0
    return Depth(max(0, length - claimed), claimed, max(0.0, age_ms / 1000), _takes(client, work))


def _takes(client: Any, work: str) -> LaneBytes | None:
    try:
        return bytes_from(client.execute_command(*functions.lane_bytes(work)))
    except ServerError:
        return None  # an older version of the functions, for a while


def lane_limits(settings: Settings, card: Card) -> dict[str, str]:
    """Return what a consumer says of the limits of lanes that have none of their own, as ``hr1_heartbeat`` takes it."""
    most_tokens = settings.lane_tokens if card.batch.unit == TOKEN else 0
    return {
        "lane_bytes": str(settings.lane_bytes),
        "kept_bytes": str(settings.kept_bytes),
        "lane_tokens": str(most_tokens),
    }


def by_lane(items: Iterable[T], lane_of: Callable[[T], str]) -> dict[str, list[T]]:
    """Sort items by their lane, in order."""
    found: dict[str, list[T]] = {}
    for one in items:
        found.setdefault(lane_of(one), []).append(one)
    return found


class LaneReader:
    """Reads several lanes of a model for one worker.

    Args:
        link: the connection to read on.
        block_ms: longest wait for the first entry.
    """

    def __init__(self, link: SyncLink, model: str, worker: str, block_ms: int) -> None:
        self._link, self._model, self._block_ms = link, model, block_ms
        self._claim = ("XREADGROUP", "GROUP", keys.GROUP, worker, "COUNT")

    def look(self, lanes: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the commands whose answers :meth:`take` receives first."""
        works = [keys.work(self._model, lane) for lane in lanes]
        return [command for work in works for command in (("XLEN", work), ("XPENDING", work, keys.GROUP))]

    def take(self, fair_share: FairShare, max_entries: int, wait: bool = True) -> list[Entry]:
        """Claim entries after :meth:`look` was sent.

        Args:
            wait: for the first entry, where none is there.

        Raises:
            RedisError: the connection failed, or a stream is missing and nothing was claimed from the others.
        """
        lanes = tuple(fair_share.weights)
        counts = self._counts(lanes, fair_share.paused)
        shares = fair_share.share(max_entries, counts, time.monotonic())
        open_lanes = [lane for lane in lanes if lane not in fair_share.paused]
        return self._claimed(fair_share, shares) or (self._wait(open_lanes) if wait else [])

    def take_priority(self, fair_share: FairShare, most: float, present: Mapping[str, float]) -> list[Entry]:
        """As :meth:`take`, of lanes with less than their share of a full batch, and without waiting."""
        counts = self._counts(tuple(fair_share.weights), fair_share.paused)
        return self._claimed(fair_share, fair_share.priority_share(most, counts, present, time.monotonic()))

    def _counts(self, lanes: Sequence[str], paused: Set[str]) -> dict[str, int]:
        answers = self._link.receive_many(2 * len(lanes))
        counts = {lane: _waiting(*answers[2 * index : 2 * index + 2]) for index, lane in enumerate(lanes)}
        return {**counts, **dict.fromkeys(paused, 0)}

    def _claimed(self, fair_share: FairShare, shares: Mapping[str, int]) -> list[Entry]:
        claimed: list[Entry] = []
        if shares:
            works = {lane: keys.work(self._model, lane) for lane in shares}
            self._link.send(*((*self._claim, count, "STREAMS", works[lane], b">") for lane, count in shares.items()))
            for lane, answer in zip(shares, self._link.receive_many(len(shares)), strict=True):
                if not isinstance(answer, ServerError):  # one lane's fault is not the others'
                    claimed += entries(answer, lane, fair_share.expected(lane))
        return claimed

    def _wait(self, lanes: Sequence[str]) -> list[Entry]:
        if not lanes:  # all are paused
            time.sleep(self._block_ms / 1000)
            return []
        works = {keys.work(self._model, lane).encode(): lane for lane in lanes}
        ids = [b">"] * len(works)
        answer = self._link.call(*self._claim, 1, "BLOCK", self._block_ms, "STREAMS", *works, *ids)
        return [entry for one in answer or () for entry in entries([one], works[one[0]])]


def _waiting(length: Any, pending: Any) -> int:
    """Count what nobody has claimed; 0 where there is no stream or group."""
    if isinstance(length, ServerError) or isinstance(pending, ServerError):
        return 0
    return max(0, int(length) - int(pending[0]))
