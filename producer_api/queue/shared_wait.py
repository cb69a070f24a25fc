"""One request's wait for its reply while its body is in shared memory instead of the queue."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from shared.wire.bodies import BODY_GONE, At
from shared.wire.fast import decode_reply
from shared.wire.messages import Request, WireError
from shared.wire.outcomes import EXPIRED, MALFORMED, RequestError

from .admission import refusal
from .body_store import BodyStore
from .channel import Channel, Wait

NOT_FOLLOWED = ((BODY_GONE.code, None), (MALFORMED.code, "at"))
"""How a request ends whose body a consumer does not find where it is said to be, or that is of an older version: code
and field. Models of a user's own may call an input malformed, too."""

_CODES = tuple(code.encode() for code, _ in NOT_FOLLOWED)


class SharedWait:
    """As :class:`producer_api.queue.channel.Wait`. A request whose body was not found goes again, once, with its body.

    Only this process knows its id, so nobody else sees how it ended first.

    Args:
        at: where the body is; given back when the request has ended.
        on_resent: called when it goes again.
    """

    __slots__ = ("_at", "_begun_s", "_channel", "_done", "_on_resent", "_request", "_store", "_wait")

    def __init__(
        self,
        channel: Channel,
        store: BodyStore,
        request: Request,
        at: At,
        done: Callable[[bytes | RequestError], None],
        on_resent: Callable[[], None],
    ) -> None:
        self._channel, self._store, self._request, self._done = channel, store, request, done
        self._on_resent, self._begun_s = on_resent, time.perf_counter()
        self._at: At | None = at
        channel.account.shared_bytes += at.size_bytes
        short = msgspec.structs.replace(request, body=None, at=at.text())
        try:
            self._wait: Wait = channel.begin(short, id_is_generated=True, done=self._end)
        except BaseException:
            self._drop()
            raise

    def give_up(self) -> None:
        """The client no longer waits."""
        self._wait.give_up()
        self._drop()

    def _end(self, result: bytes | RequestError) -> None:
        self._drop()
        if isinstance(result, RequestError):
            self._done(result)
            return
        if not was_not_followed(result):
            self._store.was_read()
            self._done(result)
            return
        self._store.was_not_read()
        left_ms = self._request.ttl_ms - round((time.perf_counter() - self._begun_s) * 1000)
        if left_ms <= 0:
            self._done(refusal(EXPIRED, "The deadline passed before the request could run.", self._request.id))
            return
        self._on_resent()
        whole = msgspec.structs.replace(self._request, ttl_ms=left_ms)
        self._wait = self._channel.begin(whole, id_is_generated=True, done=self._done)

    def _drop(self) -> None:
        at, self._at = self._at, None
        if at is not None:
            self._store.drop(at)
            self._channel.account.shared_bytes -= at.size_bytes


def was_not_followed(reply: bytes) -> bool:
    """Say whether a reply is that of a consumer which did not take the body from where it is."""
    if not any(code in reply for code in _CODES):
        return False
    try:
        fault = decode_reply(reply).fault
    except (WireError, ValueError):
        return False
    return fault is not None and (fault.code, fault.field) in NOT_FOLLOWED
