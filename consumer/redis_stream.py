"""The work stream on Redis: XREADGROUP to claim, ``hr1_commit`` to end, XAUTOCLAIM to recover."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from shared import cards, functions, keys, wishes
from shared.clock import RedisClock
from shared.redis import ClientError, ServerError, SyncLink, connect
from shared.settings import Settings

from .stream import Depth, Ended, Entry, StreamDown, StreamGone

log = logging.getLogger(__name__)
T = TypeVar("T")

_FIELD = keys.MESSAGE_FIELD.encode()


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])


def _message(fields: Any) -> bytes | None:
    """Return the request of an entry's flat field list, None when there is none."""
    if not fields:
        return None
    if fields[0] == _FIELD:
        return fields[1]  # type: ignore[no-any-return]
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(_FIELD)


def _entries(answer: Any, attempt: int) -> list[Entry]:
    """Make entries of XREADGROUP's answer for one stream, which is empty when nothing came."""
    if not answer:
        return []
    return [Entry(entry_id, _milliseconds(entry_id), _message(fields), attempt) for entry_id, fields in answer[0][1]]


class RedisStream:
    """See :class:`consumer.stream.WorkStream`.

    Args:
        settings: Redis address, lease and lane limit.
        model: whose work stream.
        worker: this consumer's name in the group.
    """

    def __init__(self, settings: Settings, model: str, worker: str, lane: str = keys.DEFAULT_LANE) -> None:
        self.clock = RedisClock()
        self._settings = settings
        self._model, self._worker = model, worker
        self._work = keys.work(model, lane)
        # Reading, committing and the rest happen on threads of their own, and each has a connection of its own.
        self._client = connect(settings.redis_address, settings.socket_timeout_s)
        self._reading, self._committing, self._beating = (SyncLink(self._client) for _ in range(3))
        self._claimed_after: bytes | None = None
        self._has_loaded = False

    def read(self, max_entries: int) -> list[Entry]:
        """See the interface; waits for at most ``settings.block_ms``."""
        if self._claimed_after is not None:
            return self._read_claimed(max_entries, self._claimed_after)
        try:
            return self._read_from(b">", max_entries, 1)
        except StreamDown:
            self._claimed_after = b"0-0"
            raise

    def _read_claimed(self, max_entries: int, after: bytes) -> list[Entry]:
        """Read again what this worker holds: the server may have claimed entries for it whose answer was lost."""
        entries = self._read_from(after, max_entries, 2)
        self._claimed_after = entries[-1].entry_id if entries else None
        return entries

    def _read_from(self, start: bytes, max_entries: int, attempt: int) -> list[Entry]:
        return _entries(self._guard(lambda: self._reading.call(*self._reading_from(start, max_entries))), attempt)

    def _reading_from(self, start: bytes, max_entries: int) -> tuple[Any, ...]:
        return (
            *("XREADGROUP", "GROUP", keys.GROUP, self._worker),
            *("COUNT", max_entries, "BLOCK", self._settings.block_ms),
            *("STREAMS", self._work, start),
        )

    def commit_and_read(self, ended: Sequence[Ended], committed: Callable[[], None], max_entries: int) -> list[Entry]:
        """See the interface."""
        if self._claimed_after is not None:
            return self.read(max_entries)
        link = self._reading
        commit = ("FCALL", functions.COMMIT, 1, self._work, *self._commit_arguments(ended))
        try:
            self._guard(lambda: link.send(commit, self._reading_from(b">", max_entries)))
            try:
                statuses = self._guard(link.receive)
            except StreamDown as error:
                if not isinstance(error.__cause__, ServerError):
                    raise
                log.warning("Committing together with reading failed (%s).", error)
            else:
                for status in statuses:
                    self._status(status)
                committed()
            return _entries(self._guard(link.receive), 1)
        except StreamDown:
            self._claimed_after = b"0-0"
            raise

    def reclaim(self, max_entries: int) -> list[Entry]:
        """See the interface; an entry counts as abandoned once it has been idle for a lease."""
        try:
            return self._claim_abandoned(max_entries)
        except StreamDown:
            self._claimed_after = b"0-0"
            raise

    def _claim_abandoned(self, max_entries: int) -> list[Entry]:
        answer: Any = self._guard(
            lambda: self._client.xautoclaim(
                self._work, keys.GROUP, self._worker, min_idle_time=self._settings.lease_ms, count=max_entries
            )
        )
        return [
            Entry(entry_id, _milliseconds(entry_id), fields.get(_FIELD), self._deliveries(entry_id))
            for entry_id, fields in answer[1]
            if fields is not None
        ]

    def _deliveries(self, entry_id: bytes) -> int:
        answer: Any = self._guard(
            lambda: self._client.xpending_range(self._work, keys.GROUP, min=entry_id, max=entry_id, count=1)
        )
        return int(answer[0]["times_delivered"]) if answer else 2

    def commit(self, ended: Sequence[Ended]) -> list[int]:
        """See the interface."""
        answer = self._call(self._committing, functions.COMMIT, self._commit_arguments(ended))
        return [self._status(status) for status in answer]

    def _commit_arguments(self, ended: Sequence[Ended]) -> list[Any]:
        arguments: list[Any] = [
            functions.REPLY_STREAM_CAP,
            self._settings.reply_expiry_ms(self._settings.max_timeout_ms),
            functions.HINT_LIMIT_BYTES,
        ]
        for item in ended:
            arguments += (item.entry_id, item.request_id, item.reply_to, item.expiry_ms, item.reply)
        return arguments

    def _status(self, status: Any) -> int:
        if isinstance(status, int):
            return status
        log.error("Redis refused to commit a reply: %s", status.decode(errors="replace"))
        return -1

    def discard(self, entry_ids: Sequence[bytes]) -> None:
        """See the interface."""

        def both() -> None:
            self._client.xack(self._work, keys.GROUP, *entry_ids)
            self._client.xdel(self._work, *entry_ids)

        self._guard(both)

    def heartbeat(self, card: cards.Card, state: Mapping[str, str]) -> None:
        """See the interface."""
        if not self._has_loaded:
            self._load_functions()
        fields = [part for pair in state.items() for part in pair]
        published = [part for pair in cards.to_hash(card).items() for part in pair]
        before_s = time.monotonic()
        now_ms, _ = self._call(
            self._beating,
            functions.HEARTBEAT,
            [self._worker, self._settings.lease_ms, self._settings.lane_limit, len(fields), *fields, *published],
        )
        self.clock.observe(now_ms, before_s, time.monotonic())
        # The list of models lives in another hash slot, so it cannot be part of the function's step. A full server
        # refuses it; a consumer that could not start because of that could not empty the server either.
        with contextlib.suppress(StreamDown):
            self._guard(lambda: self._client.zadd(keys.MODELS, {self._model: now_ms}))

    def _load_functions(self) -> None:
        """Replace the functions that an older version may have left on the server, where that is permitted."""
        try:
            self._guard(lambda: functions.load(self._client))
        except StreamDown as error:
            if not isinstance(error.__cause__, ServerError):
                raise
            log.info("The functions were not loaded (%s); those on the server are used.", error)
        self._has_loaded = True

    def leave(self) -> None:
        """See the interface."""
        self._call(self._beating, functions.LEAVE, [self._worker])

    def wish(self) -> wishes.Wish | None:
        """See the interface."""
        key = keys.wish(self._model)
        found: Any = self._guard(lambda: self._client.hmget(key, [wishes.PRECISION, wishes.TOKEN]))
        return wishes.from_fields(*found)

    def take_turn(self) -> bool:
        """See the interface."""
        key, mine, lease_ms = keys.turn(self._model), self._worker.encode(), self._settings.lease_ms
        if self._guard(lambda: self._client.set(key, mine, nx=True, px=lease_ms)):
            return True
        return bool(
            self._guard(lambda: self._client.get(key)) == mine
            and self._guard(lambda: self._client.pexpire(key, lease_ms))
        )

    def end_turn(self) -> None:
        """See the interface."""
        key = keys.turn(self._model)
        if self._guard(lambda: self._client.get(key)) == self._worker.encode():
            self._guard(lambda: self._client.delete(key))

    def depth(self) -> Depth:
        """See the interface. XINFO's lag is not used: it is unknown whenever the last delivered entry is deleted."""

        def measure() -> Depth:
            length = int(self._client.xlen(self._work))
            pending: Any = self._client.xpending(self._work, keys.GROUP)
            claimed = int(pending["pending"])
            oldest: Any = pending["min"]
            if not oldest:  # only then is a whole entry, which may be large, read for the sake of its id
                first: Any = self._client.xrange(self._work, count=1)
                oldest = first[0][0] if first else None
            age_ms = self.clock.now_ms() - _milliseconds(oldest) if oldest else 0.0
            return Depth(max(0, length - claimed), claimed, max(0.0, age_ms / 1000))

        return self._guard(measure)

    def close(self) -> None:
        """See the interface."""
        for link in (self._reading, self._committing, self._beating):
            link.close()
        self._client.close()

    def _call(self, link: SyncLink, function: str, arguments: Sequence[Any]) -> Any:
        try:
            return self._guard(lambda: link.call("FCALL", function, 1, self._work, *arguments))
        except StreamDown as error:
            if error.__cause__ is None or not functions.is_missing(error.__cause__):  # type: ignore[arg-type]
                raise
        log.info("The functions are not in Redis; loading them.")
        self._guard(lambda: functions.load(self._client))
        return self._guard(lambda: link.call("FCALL", function, 1, self._work, *arguments))

    def _guard(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except ServerError as error:
            if str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise StreamGone(str(error)) from error
            raise StreamDown(str(error)) from error
        except ClientError as error:
            raise StreamDown(str(error) or type(error).__name__) from error
