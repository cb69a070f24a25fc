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
    """Do ``work`` until it is over, or this task is cancelled; log whatever else ends it, and start again.

    A task that ends by an exception does so silently: without the one that reads the replies, all requests would wait
    in vain, and the front end would seem healthy.

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
            log.error("%s: something that it waited for was cancelled; it starts again.", what)
        except Exception:
            log.exception("%s failed; it starts again.", what)
        if not is_over():
            await asyncio.sleep(retry_s)
