"""Writing entries of the request log [I/O]; ``shared/redis/request_log.py`` says what it may take."""

from __future__ import annotations

import logging
from time import monotonic

from shared.redis.client import RedisError, ServerError, SyncLink, connect
from shared.redis.request_log import Cap, add, cut, weigh
from shared.settings import Settings
from shared.wire.request_log import BY_CONSUMER

log = logging.getLogger(__name__)


class RedisLog:
    """Adds to the log of one model, on a connection that is opened when it is first needed. For one thread."""

    def __init__(self, settings: Settings, model: str) -> None:
        self._client = connect(settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s)
        self._link, self._model = SyncLink(self._client), model
        self._cap = Cap(settings.request_log_mb << 20)

    def write(self, packed: bytes) -> bool:
        """Add an entry; False when it was not added."""
        commands = add(self._model, BY_CONSUMER, packed)
        is_weighed = self._cap.is_due(len(packed), monotonic())
        if is_weighed:
            commands += weigh(self._model)
        try:
            answers = self._link.call_many(commands)
            if is_weighed and (most := self._cap.most_entries(*answers[-2:])) is not None:
                self._link.call(*cut(self._model, most))
        except (RedisError, OSError) as error:
            log.debug("The request log cannot be written: %s", error)
            return False
        return not isinstance(answers[0], ServerError)

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
        self._client.close()
