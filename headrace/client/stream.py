"""Requests straight onto the queue, without a front end (docs/protocol.md, the fast tier) [I/O]."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Self

from shared import keys, redis_url
from shared.keys import DEFAULT_LANE
from shared.names import check_name
from shared.redis.client import RedisError, ServerError, connect
from shared.wire.messages import Request, encode_request
from shared.wire.outcomes import NO_WORKER

from .answers import Answer
from .bodies import Sendable, checked_id, checked_model, payload
from .client import TIMEOUT_S
from .errors import lost_queue, of_outcome, too_late
from .reply_streams import LONGEST_READ_S, Replies, Waiting

CONNECT_S = 5.0


class Stream:
    """Puts requests onto the queue itself and reads their replies: no front end in between.

    Keep one for the whole program; any thread may use it. One connection reads the replies to all requests of a model.
    A request is added once: if the connection breaks just then, the reply is waited for, and nothing runs twice. The
    lane's limit is not checked by the queue on this way, so ``in_flight`` bounds what this process has under way.

    Args:
        url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://`` (docs/running.md, docs/security.md).
        lane: give each direct producer its own (docs/protocol.md).
        in_flight: at most so many requests at once, all models together; further ones wait until one has ended.

    Raises:
        ValueError: an argument cannot be used.
    """

    def __init__(self, url: str, *, lane: str = DEFAULT_LANE, in_flight: int = 250) -> None:
        try:
            redis_url.check(url)
            self._redis = connect(url, timeout_s=LONGEST_READ_S + CONNECT_S)
        except ValueError as error:
            raise ValueError(f"The address cannot be used: {str(error).rstrip('.')}.") from None
        if in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, not {in_flight}.")
        self._lane = check_name(lane, "The lane")
        self._room = threading.BoundedSemaphore(in_flight)
        self._replies: dict[str, Replies] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def predict(
        self,
        model: str,
        body: Sendable | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        timeout_s: float = TIMEOUT_S,
        top_k: int | None = None,
        truncate: bool = False,
        request_id: str | None = None,
    ) -> Answer:
        """Ask a model and wait for its answer; arguments and errors are those of :class:`headrace.client.Client`.

        Raises:
            HeadraceError: there is no answer; its ``code`` says why.
            ValueError: an argument cannot be sent.
        """
        begun_s = time.monotonic()
        future = self.submit(
            model,
            body,
            inputs=inputs,
            content_type=content_type,
            timeout_s=timeout_s,
            top_k=top_k,
            truncate=truncate,
            request_id=request_id,
        )
        try:
            return future.result(max(0.0, begun_s + timeout_s - time.monotonic()) + LONGEST_READ_S)
        except TimeoutError:
            raise too_late(request_id, timeout_s) from None

    def submit(
        self,
        model: str,
        body: Sendable | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        content_type: str | None = None,
        timeout_s: float = TIMEOUT_S,
        top_k: int | None = None,
        truncate: bool = False,
        request_id: str | None = None,
    ) -> Future[Answer]:
        """Put a request onto the queue; the future has its answer, or its ``HeadraceError``.

        Waits only while ``in_flight`` requests are under way.

        Raises:
            HeadraceError: the request was not added.
            ValueError: an argument cannot be sent.
        """
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0, not {timeout_s:g}.")
        deadline_s = time.monotonic() + timeout_s
        sent, name = payload(body, inputs, content_type, top_k, truncate), checked_id(request_id)
        replies = self._replies_of(checked_model(model))
        if not self._room.acquire(timeout=timeout_s):
            raise too_late(name, timeout_s)
        waiting = Waiting(name, time.monotonic(), deadline_s, timeout_s)
        waiting.future.add_done_callback(lambda _: self._room.release())
        left_s = max(0.001, deadline_s - time.monotonic())
        request = Request(
            name, max(1, int(left_s * 1000)), sent.content_type, sent.body, sent.inputs, replies.instance, sent.params
        )
        replies.add(waiting)
        try:
            self._add(model, encode_request(request), name)
        except BaseException as error:
            replies.give_up(waiting)
            waiting.future.set_exception(error)
            raise
        return waiting.future

    def _add(self, model: str, message: bytes, request_id: str) -> None:
        """Add a request once. If the answer to that is lost, it may be there: its reply is waited for."""
        try:
            entry = self._redis.xadd(keys.work(model, self._lane), {keys.MESSAGE_FIELD: message}, nomkstream=True)
        except ServerError as error:
            raise lost_queue(error, request_id) from None
        except (RedisError, OSError) as error:
            if self._is_reachable():
                return
            raise lost_queue(error, request_id) from None
        if entry is None:
            told = f"No consumer has served model {model!r} in lane {self._lane!r} of this queue yet."
            raise of_outcome(NO_WORKER, told, request_id)

    def _is_reachable(self) -> bool:
        try:
            return bool(self._redis.ping())
        except (RedisError, OSError):
            return False

    def _replies_of(self, model: str) -> Replies:
        with self._lock:
            if self._is_closed:
                raise ValueError("This Stream is closed.")
            if model not in self._replies:
                self._replies[model] = Replies(self._redis, model, self._lane)
            return self._replies[model]

    def close(self) -> None:
        """End what waits, and close the connections."""
        with self._lock:
            self._is_closed = True
            all_replies = list(self._replies.values())
        for one in all_replies:
            one.close()
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
