"""Threads whose crash ends the consumer: with a stage missing, what it takes would never be answered."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from .models.model_errors import described

log = logging.getLogger(__name__)


class GuardedThreads:
    """Makes threads, and tells of the first one that crashes.

    Args:
        on_crash: called once the cause is in the log; the process is to end.

    Attributes:
        cause: what the last crash raised.
    """

    def __init__(self, on_crash: Callable[[], None]) -> None:
        self._on_crash = on_crash
        self.cause: BaseException | None = None

    def make(self, name: str, target: Callable[[], None]) -> threading.Thread:
        """Return a thread that is not started yet."""
        return threading.Thread(target=self._run, args=(name, target), name=name, daemon=True)

    def _run(self, name: str, target: Callable[[], None]) -> None:
        try:
            target()
        except BaseException as error:  # `sys.exit()` ends a thread without a word, and a panic of Rust is no Exception
            if error is not self.cause:
                self._crashed(name, error)

    def _crashed(self, name: str, error: BaseException) -> None:
        self.cause = error
        text = "The %s stage crashed; the consumer ends so that it is started again."
        try:
            log.error(text, name, exc_info=error)
        except BaseException:  # what a traceback shows of a foreign error is foreign code
            log.error(f"{text} %s", name, described(error))
        finally:
            self._on_crash()
