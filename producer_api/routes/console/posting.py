"""What all actions of the console have in common: who may, and a short document in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec
from starlette.requests import Request

from producer_api.console.access import require_operate
from producer_api.http import body as bodies
from producer_api.load.body_budget import BodyBudget, IncomingBody
from producer_api.parsing.validation import from_json
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError, malformed

T = TypeVar("T")

MOST_BYTES = 64 * 1024


class Posting:
    """Reads the bodies of actions.

    Args:
        budget: the account of bodies that come.
    """

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget

    async def read(self, request: Request, decoder: msgspec.json.Decoder[T]) -> T:
        """Check that the sender may act, and read what to do.

        Raises:
            RequestError: it may not, or the body is not what it must be.
            producer_api.http.body.Disconnected: the client went away.
        """
        require_operate(request)
        if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, "Send the body uncompressed.", field="Content-Encoding")
        length = bodies.declared_bytes(dict(request.scope["headers"]))
        body = await bodies.read(request.receive, length, MOST_BYTES, self._arriving)
        return from_json(decoder, body)

    @contextmanager
    def _arriving(self) -> Iterator[IncomingBody]:
        incoming = self._budget.begin()
        try:
            yield incoming
        finally:
            incoming.end()


def options_of(request: Request, *names: str) -> dict[str, str]:
    """Return the parameters of a query, each of which may be there once.

    Raises:
        RequestError: ``MALFORMED``.
    """
    given = request.query_params
    for name in given:
        if name not in names or len(given.getlist(name)) > 1:
            raise malformed(f"This takes {', '.join(names)}, each once.", name[:80])
    return dict(given)
