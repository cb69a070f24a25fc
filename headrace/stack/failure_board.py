"""Showing in Redis which consumers fail [I/O], where `status`, front ends and alerts read it.

What is written there is in shared/state/failures.py.

A thread of its own speaks to Redis, so that the supervisor never waits for it. Nothing depends on what is shown: while
Redis is away it is shown later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from shared import keys
from shared.names import host_name
from shared.state.failures import KEPT_MS, Failure, encode

from .crashes import Crash

REFRESH_S = KEPT_MS / 1000 / 4
_TIMEOUT_S = 1.0


class FailureBoard:
    """Shows what it was given last, again and again, until there is nothing to show.

    Args:
        url: of Redis.
        complain: is given one sentence the first time that Redis refuses it; called on the thread.
    """

    def __init__(self, url: str, complain: Callable[[str], None]) -> None:
        self._url, self._complain = url, complain
        self._wake = threading.Event()
        self._crashes: Mapping[str, Crash] = {}
        self._shown: dict[str, set[str]] = {}
        self._thread: threading.Thread | None = None
        self._client: Any = None

    def show(self, crashes: Mapping[str, Crash]) -> None:
        """Show these from now on, instead of what was shown. Returns at once."""
        self._crashes = crashes
        self._wake.set()
        if self._thread is None and crashes:
            self._thread = threading.Thread(target=self._run, name="failures", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        # Imported here: most stacks never need it.
        from shared.redis.client import RedisError, ServerError

        has_complained = False
        while True:
            self._wake.clear()
            try:
                self._publish(self._crashes)
            except Exception as error:  # whatever it is, the thread must live to show what comes next
                is_passing = isinstance(error, RedisError | OSError) and not isinstance(error, ServerError)
                if not is_passing and not has_complained:
                    has_complained = True
                    self._complain(f"Redis does not take what is to be shown of failed consumers: {error}")
                self._forget_client()
            self._wake.wait(REFRESH_S)

    def _publish(self, crashes: Mapping[str, Crash]) -> None:
        from shared.redis.client import connect

        if self._client is None:
            self._client = connect(self._url, _TIMEOUT_S)
        seconds, microseconds = self._client.time()
        now_ms, now_s = int(seconds) * 1000 + int(microseconds) // 1000, time.monotonic()
        wanted: dict[str, dict[str, bytes]] = {}
        for one in crashes.values():
            retry_at_ms = now_ms + round((one.retry_at_s - now_s) * 1000)
            failure = Failure(one.exit_code, one.deaths, retry_at_ms, now_ms, one.why)
            wanted.setdefault(one.spec.model, {})[f"{host_name()}-{one.spec.index}"] = encode(failure)
        for model in {*wanted, *self._shown}:
            self._show_model(model, wanted.get(model, {}), now_ms)

    def _show_model(self, model: str, fields: Mapping[str, bytes], now_ms: int) -> None:
        key, gone = keys.failures(model), self._shown.get(model, set()) - set(fields)
        if gone:
            self._client.hdel(key, *gone)
        if fields:
            self._client.hset(key, mapping=fields)
            self._client.pexpire(key, KEPT_MS)
            # A model that never lived is known nevertheless: its requests are refused for want of a worker.
            self._client.zadd(keys.MODELS, {model: now_ms}, nx=True)
        self._shown[model] = set(fields)
        if not fields:
            del self._shown[model]

    def _forget_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()
