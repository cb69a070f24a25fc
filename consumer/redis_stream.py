"""The work stream on Redis: XREADGROUP to claim, ``hr1_commit`` to end, ``hr1_reclaim`` to recover."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from shared import cards, functions, keys, wishes
from shared.clock import RedisClock
from shared.redis import ClientError, ServerError, SyncLink, connect, is_demoted
from shared.settings import Settings

from .stream import Dead, Depth, Ended, Entry, StreamDown, StreamGone

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


def _entries(answer: Any) -> list[Entry]:
    """Make entries of XREADGROUP's answer for one stream, which is empty when nothing came."""
    if not answer:
        return []
    return [Entry(entry_id, _milliseconds(entry_id), _message(fields)) for entry_id, fields in answer[0][1]]


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
        # Reading, committing, beating and renewing each happen on a thread and a connection of their own.
        self._client = connect(settings.redis_address, settings.socket_timeout_s)
        self._reading, self._committing, self._beating, self._keeping = (SyncLink(self._client) for _ in range(4))
        self._claimed_after: bytes | None = None
        self._has_loaded = False

    def read(self, max_entries: int) -> list[Entry]:
        """See the interface; waits for at most ``settings.block_ms``."""
        if self._claimed_after is not None:
            return self._read_claimed(max_entries, self._claimed_after)
        try:
            return _entries(self._guard(lambda: self._reading.call(*self._new_entries(max_entries))))
        except StreamDown:
            self._claimed_after = b"0-0"
            raise

    def _read_claimed(self, max_entries: int, after: bytes) -> list[Entry]:
        """Read again what this worker holds: the server may have claimed entries for it whose answer was lost."""
        last, *rows = self._call(self._reading, functions.CLAIMED, [self._worker, after, max_entries])
        self._claimed_after = last or None
        return [
            Entry(entry_id, _milliseconds(entry_id), message, deliveries + 1) for entry_id, deliveries, message in rows
        ]

    def _new_entries(self, max_entries: int) -> tuple[Any, ...]:
        return (
            *("XREADGROUP", "GROUP", keys.GROUP, self._worker),
            *("COUNT", max_entries, "BLOCK", self._settings.block_ms),
            *("STREAMS", self._work, b">"),
        )

    def commit_and_read(self, ended: Sequence[Ended], committed: Callable[[], None], max_entries: int) -> list[Entry]:
        """See the interface."""
        if self._claimed_after is not None:
            return self.read(max_entries)
        link = self._reading
        commit = ("FCALL", functions.COMMIT, 1, self._work, *self._commit_arguments(ended))
        try:
            self._guard(lambda: link.send(commit, self._new_entries(max_entries)))
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
            return _entries(self._guard(link.receive))
        except StreamDown:
            self._claimed_after = b"0-0"
            raise

    def reclaim(self, max_entries: int) -> list[Entry]:
        """See the interface."""
        arguments = [self._worker, self._settings.lease_ms, max_entries]
        # Should the answer be lost, these are taken over once more; read with the others they would not run alone.
        rows = self._call(self._reading, functions.RECLAIM, arguments)
        return [
            Entry(entry_id, _milliseconds(entry_id), message, deliveries + 1) for entry_id, deliveries, message in rows
        ]

    def begin_alone(self, entry: Entry) -> bool:
        """See the interface."""
        arguments = [self._worker, entry.entry_id, entry.attempt]
        return bool(self._call(None, functions.BEGIN, arguments))

    def renew(self, entry_ids: Sequence[bytes]) -> list[bytes]:
        """See the interface."""
        lost: list[bytes] = self._call(self._keeping, functions.RENEW, [self._worker, *entry_ids])
        return lost

    def reap(self) -> int:
        """See the interface; dead long ago means four leases."""
        return int(self._call(self._keeping, functions.REAP, [4 * self._settings.lease_ms]))

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

    def bury(self, dead: Sequence[Dead]) -> list[int]:
        """See the interface."""
        arguments: list[Any] = [
            *self._commit_arguments(()),
            functions.DEAD_LETTERS_CAP,
            functions.DEAD_LETTERS_BYTES,
        ]
        for one in dead:
            arguments += (*self._commit_arguments((one.ended,))[3:], one.reason, one.crashes)
        return [self._status(status) for status in self._call(None, functions.DEAD, arguments)]

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

    def serving(self) -> wishes.Serving:
        """See the interface."""
        return wishes.serving_from(self._guard(lambda: self._client.hget(keys.wish(self._model), wishes.SERVING)))

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
        for link in (self._reading, self._committing, self._beating, self._keeping):
            link.close()
        self._client.close()

    def _call(self, link: SyncLink | None, function: str, arguments: Sequence[Any]) -> Any:
        """Call a function, on any connection when ``link`` is None; load the functions where they are missing."""
        send = self._client.execute_command if link is None else link.call

        def call() -> Any:
            return send("FCALL", function, 1, self._work, *arguments)

        try:
            return self._guard(call)
        except StreamDown as error:
            if error.__cause__ is None or not functions.is_missing(error.__cause__):  # type: ignore[arg-type]
                raise
        log.info("The functions are not in Redis; loading them.")
        self._guard(lambda: functions.load(self._client))
        return self._guard(call)

    def _guard(self, step: Callable[[], T]) -> T:
        try:
            return step()
        except ServerError as error:
            if is_demoted(error):  # connections that only read would stay with a server that is a replica now
                self._client.connection_pool.disconnect(inuse_connections=False)
            if str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise StreamGone(str(error)) from error
            raise StreamDown(str(error)) from error
        except ClientError as error:
            raise StreamDown(str(error) or type(error).__name__) from error
