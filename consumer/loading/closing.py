"""Closes models: calls ``close`` once for each one that began to load."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable

from consumer.models.base import Model

log = logging.getLogger(__name__)

CLOSE_S = 5.0
"""Longest time that a model's ``close`` is waited for."""


class Closing:
    """Closes models on the calling thread, which must be the one that loads and runs them.

    Args:
        on_hang: called, on another thread, when a ``close`` has not returned within ``CLOSE_S``.
    """

    def __init__(self, on_hang: Callable[[], None]) -> None:
        self._on_hang = on_hang

    def close(self, model: Model) -> None:
        """Close ``model``. Log what it raises, and continue without the model."""
        because = sys.exc_info()[1]  # where a load that raised is cleared up, what it raised is not told yet
        watch = threading.Timer(CLOSE_S, self._hangs, [because])
        watch.daemon = True
        watch.start()
        try:
            model.close()
        except BaseException:
            log.exception("close() of the model raised; the consumer continues without that model.")
        finally:
            watch.cancel()

    def _hangs(self, because: BaseException | None) -> None:
        log.error("close() of the model has not returned within %g s; not waiting for it.", CLOSE_S, exc_info=because)
        self._on_hang()
