"""The replies to one model's requests: one connection reads them for all that wait [I/O]."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from shared import keys
from shared.redis.client import RedisError
from shared.wire.fast import decode_reply
from shared.wire.messages import Reply, WireError
from shared.wire.outcomes import UNKNOWN_OUTCOME

from .answers import Answer, of_reply
from .errors import HeadraceError, of_code, of_outcome, too_late

LONGEST_READ_S = 0.5
"""How long one read waits for replies; so late at most a deadline, or the end, is noticed."""

LOOK_S = 1.0
"""How often the reply keys of what waits are read besides: replies in the stream are hints, and may be lost."""

PAUSE_S = 0.2
"""Before the server is asked again after the connection was lost."""

MOST = 1000


class Waiting:
    """A request that waits for its reply. Times are monotonic seconds."""

    def __init__(self, request_id: str, sent_s: float, deadline_s: float, timeout_s: float) -> None:
        self.request_id, self.sent_s, self.deadline_s, self.timeout_s = request_id, sent_s, deadline_s, timeout_s
        self.future: Future[Answer] = Future()


class Replies:
    """Reads on a thread of its own, while something waits.

    Args:
        client: of Redis.

    Attributes:
        instance: the name that requests give as the one to reply to.
    """

    def __init__(self, client: Any, model: str, lane: str) -> None:
        self.instance = f"client-{secrets.token_hex(8)}"
        self._redis, self._model, self._lane = client, model, lane
        self._stream, self._cursor = keys.reply_stream(model, lane, self.instance), b"0-0"
        self._waiting: dict[str, list[Waiting]] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self._looked_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"headrace-replies-{model}", daemon=True)
        self._thread.start()

    def add(self, waiting: Waiting) -> None:
        """Wait for the reply to a request that is sent next."""
        with self._changed:
            self._waiting.setdefault(waiting.request_id, []).append(waiting)
            self._changed.notify()

    def give_up(self, waiting: Waiting) -> None:
        """Wait no more for one."""
        with self._changed:
            self._drop(waiting)

    def _drop(self, waiting: Waiting) -> bool:
        others = self._waiting.get(waiting.request_id, [])
        if waiting not in others:
            return False
        others.remove(waiting)
        if not others:
            del self._waiting[waiting.request_id]
        return True

    def close(self) -> None:
        """End, and with it all that waits."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()
        told = "The Stream was closed before the answer came."
        for waiting in self._all():
            self._fail(waiting, of_outcome(UNKNOWN_OUTCOME, told, waiting.request_id))

    def _all(self) -> list[Waiting]:
        with self._changed:
            return [one for some in self._waiting.values() for one in some]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
            try:
                self._read()
                if time.monotonic() - self._looked_s >= LOOK_S:
                    self._look({one.request_id for one in self._all()})
                    self._looked_s = time.monotonic()
            except (RedisError, OSError):
                time.sleep(PAUSE_S)
                self._looked_s = 0.0
            now_s = time.monotonic()
            for waiting in self._all():
                if waiting.deadline_s <= now_s:
                    self._fail(waiting, too_late(waiting.request_id, waiting.timeout_s))

    def _read(self) -> None:
        block_ms = max(1, round(self._left_s() * 1000))
        found: Any = self._redis.xread({self._stream: self._cursor}, count=MOST, block=block_ms)
        missing: set[str] = set()
        for entry_id, fields in found[0][1] if found else ():
            self._cursor = entry_id
            self._take(fields, missing)
        if missing:
            self._look(missing)

    def _left_s(self) -> float:
        first_s = min((one.deadline_s for one in self._all()), default=0.0)
        return min(LONGEST_READ_S, first_s - time.monotonic())

    def _take(self, fields: Mapping[bytes, bytes], missing: set[str]) -> None:
        """Take a hint: mostly the reply is in it, else it is to be looked for; parts of generations are passed over."""
        request_id, reply = fields.get(b"id"), fields.get(b"reply")
        if request_id is None:
            return
        if reply is None:
            missing.add(request_id.decode("ascii", "replace"))
        else:
            self._answer(reply)

    def _look(self, request_ids: set[str]) -> None:
        """Read the reply keys of requests."""
        wanted = list(request_ids)
        with self._redis.pipeline(transaction=False) as pipe:
            for request_id in wanted:
                pipe.lindex(keys.reply(self._model, self._lane, request_id), 0)
            for reply in pipe.execute():
                if reply is not None:
                    self._answer(reply)

    def _answer(self, message: bytes) -> None:
        try:
            reply = decode_reply(message)
        except WireError:  # a part of an answer, which is whole later; or none of ours
            return
        with self._changed:
            ended = self._waiting.pop(reply.id, [])
        now_s = time.monotonic()
        for waiting in ended:
            outcome = _outcome(reply, now_s - waiting.sent_s)
            if isinstance(outcome, HeadraceError):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)

    def _fail(self, waiting: Waiting, error: HeadraceError) -> None:
        with self._changed:
            is_mine = self._drop(waiting)
        if is_mine:
            waiting.future.set_exception(error)


def _outcome(reply: Reply, total_s: float) -> Answer | HeadraceError:
    if reply.fault is not None:
        return of_code(reply.fault.code, reply.fault.message, reply.id, reply.fault.field)
    if reply.at_store is not None:
        told = "The answer is in the result store, which a Stream does not read: fetch it through a front end."
        return of_outcome(UNKNOWN_OUTCOME, told, reply.id)
    return of_reply(reply, total_s)
