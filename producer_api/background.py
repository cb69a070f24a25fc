"""Tasks that run as long as the process does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

RETRY_S = 0.25


async def forever(
    what: str,
    work: Callable[[], Awaitable[None]],
    is_over: Callable[[], bool] = lambda: False,
    retry_s: float = RETRY_S,
) -> None:
    """Do ``work`` until it is over, or this task is cancelled; whatever else ends it is logged, and it begins anew.

    A task keeps to itself what ended it: with the one that reads the replies gone, everybody would wait in vain, and
    the front end would seem well.

    Args:
        what: names the work in the log.
        work: is done again when it has ended.
        is_over: says that it is meant to end.
    """
    while not is_over():
        try:
            await work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if is_over() or task is None or task.cancelling():
                raise
            log.error("%s: what it waited for was cancelled; it begins anew.", what)
        except Exception:
            log.exception("%s failed; it begins anew.", what)
        if not is_over():
            await asyncio.sleep(retry_s)
