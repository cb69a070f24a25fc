"""Work of a route that ends with its client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

from producer_api.http.guarded_protocol import ON_GONE


class ClientGone(Exception):
    """The client went away, so nobody reads an answer."""


@contextmanager
def ended_with_client(scope: Scope) -> Iterator[None]:
    """Cancel the current task when the client of a request goes away.

    Raises:
        ClientGone: that is what happened. Any other cancellation stays one.
    """
    task, is_gone = asyncio.current_task(), False

    def gone() -> None:
        nonlocal is_gone
        is_gone = True
        if task is not None:
            task.cancel()

    scope[ON_GONE] = gone
    try:
        yield
    except asyncio.CancelledError:
        if not is_gone:
            raise
        raise ClientGone from None
    finally:
        del scope[ON_GONE]
