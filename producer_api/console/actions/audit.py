"""The note that is taken of each action: a line in the log, and a count."""

from __future__ import annotations

import logging

from producer_api.metrics import ApiMetrics

log = logging.getLogger("headrace.console")


def note(metrics: ApiMetrics, who: str, action: str, what: str, why: str = "") -> None:
    """Take note of an action that has ended.

    Args:
        who: the name of the API key; see :func:`producer_api.console.access.who`.
        action: one of ``producer_api.metrics.CONSOLE_ACTIONS``.
        what: how many of what, and where.
        why: why not all of it was done; empty where it was.
    """
    metrics.console_actions.counts[action, "stopped" if why else "done"] += 1
    log.info("Console: %s by %s: %s.%s", action, who, what, f" Not all of it: {why}" if why else "")
