"""Publishing a consumer's start in Redis [I/O]; ``shared/starts.py`` says what is there."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress

from shared import keys
from shared.redis import ClientError, connect
from shared.settings import Settings
from shared.starts import KEPT_MS, Phase, Start, encode

log = logging.getLogger(__name__)


class RedisBoard:
    """See :class:`consumer.starting.Board`.

    Args:
        worker: this consumer's name.
        place: what its predecessor had and its successor will have, such as ``host-0``.
    """

    def __init__(self, settings: Settings, model: str, worker: str, place: str) -> None:
        self._client = connect(settings.redis_address, settings.socket_timeout_s)
        self._model, self._worker, self._place = model, worker, place
        self._lock = threading.Lock()  # the last word may come while another thread still says an earlier one

    def tell(self, phase: Phase, for_s: float, detail: str = "") -> None:
        """See the interface."""
        key = keys.starts(self._model)
        try:
            with self._lock:
                seconds, microseconds = self._client.time()
                now_ms = int(seconds) * 1000 + int(microseconds) // 1000
                start = Start(self._worker, phase, now_ms - round(for_s * 1000), now_ms, detail)
                self._client.hset(key, self._place, encode(start))
                self._client.pexpire(key, KEPT_MS)
                if phase is not Phase.READY:  # the heartbeat does, from then on
                    self._client.zadd(keys.MODELS, {self._model: now_ms})
        except (ClientError, OSError) as error:
            log.debug("The start is not published: %s", error)
        finally:
            if phase is not Phase.LOADING:
                with suppress(ClientError, OSError):
                    self._client.close()
