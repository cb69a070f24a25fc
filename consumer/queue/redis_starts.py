"""Publishing a consumer's start in Redis [I/O]; ``shared/state/starts.py`` says what is there."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from time import monotonic
from typing import Any

from shared import keys
from shared.redis.client import RedisError, connect
from shared.settings import Settings
from shared.state.starts import KEPT_MS, Phase, Start, decode, encode, surplus

log = logging.getLogger(__name__)


class RedisBoard:
    """See :class:`consumer.loading.progress.Board`.

    Args:
        worker: this consumer's name.
        place: what its predecessor had and its successor will have, such as ``host-0``.
        begun_s: when the process began, on the monotonic clock.
    """

    def __init__(self, settings: Settings, model: str, worker: str, place: str, begun_s: float) -> None:
        self._client = connect(settings.redis_address, settings.socket_timeout_s)
        self._model, self._worker, self._place = model, worker, place
        self._begun_s = begun_s
        self._before: tuple[int, int] | None = None
        self._has_served = False
        self._lock = threading.Lock()  # the last word may come while another thread still says an earlier one

    def tell(self, phase: Phase, for_s: float, detail: str = "") -> None:
        """See the interface. Until it serves, all counts from the beginning of the process."""
        key = keys.starts(self._model)
        try:
            with self._lock:
                seconds, microseconds = self._client.time()
                now_ms = int(seconds) * 1000 + int(microseconds) // 1000
                took_ms, failed = self._history(phase)
                lasts_s = for_s if self._has_served else monotonic() - self._begun_s
                since_ms = now_ms - round(lasts_s * 1000)
                start = Start(self._worker, phase, since_ms, now_ms, detail, took_ms, failed)
                self._client.hset(key, self._place, encode(start))
                self._client.pexpire(key, KEPT_MS)
                if phase is Phase.READY:
                    self._has_served = True
                    self._drop_surplus(key)
                else:  # the heartbeat does, from then on
                    self._client.zadd(keys.MODELS, {self._model: now_ms})
        except (RedisError, OSError) as error:
            log.debug("The start is not published: %s", error)
        finally:
            if phase is not Phase.LOADING:
                with suppress(RedisError, OSError):
                    self._client.close()

    def _history(self, phase: Phase) -> tuple[int, int]:
        """Return what the last good start on this place took, this one if it is one, and how many failed since."""
        if self._before is None:
            known: Any = self._client.hget(keys.starts(self._model), self._place)
            before = None if known is None else decode({b"before": known}).get("before")
            self._before = (0, 0) if before is None else before.successor()
        if phase is Phase.READY and not self._has_served:
            self._before = (max(1, round((monotonic() - self._begun_s) * 1000)), 0)
        return self._before

    def _drop_surplus(self, key: str) -> None:
        fields: Any = self._client.hgetall(key)
        if gone := surplus(fields):
            self._client.hdel(key, *gone)
