"""/v1/batches: batches made of files, as OpenAI's clients know them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import Response

from producer_api.auth import Client
from producer_api.bulk.openai import documents
from producer_api.bulk.openai.service import OpenAIBatches
from producer_api.http import body as bodies
from producer_api.inference.openai.documents import decoded
from producer_api.load.body_budget import BodyBudget, IncomingBody
from shared.wire.outcomes import CLIENT_CLOSED

from .files import limit_of
from .models import json_response
from .requests import choice_of

LIST_PATH = "/v1/batches"
PATH = LIST_PATH + "/{id}"
CANCEL_PATH = PATH + "/cancel"

_MOST_BYTES = 64 * 1024


class OpenAIBatchRoutes:
    """The routes."""

    def __init__(self, batches: OpenAIBatches, body_budget: BodyBudget) -> None:
        self._batches, self._body_budget = batches, body_budget

    @contextmanager
    def _arriving(self) -> Iterator[IncomingBody]:
        incoming = self._body_budget.begin()
        try:
            yield incoming
        finally:
            incoming.end()

    async def all(self, request: Request) -> Response:
        """Make a batch, or list those there are."""
        choice = choice_of(request)
        if request.method == "GET":
            page = await self._batches.list(choice, request.query_params.get("after"), limit_of(request, 100))
            return json_response(page)
        length = bodies.declared_bytes(dict(request.scope["headers"]))
        try:
            body = await bodies.read(request.receive, length, _MOST_BYTES, self._arriving)
        except bodies.Disconnected:
            return Response(status_code=CLIENT_CLOSED.status)
        asked = decoded(body, documents.requests)
        client: Client | None = request.scope.get("api_client")
        if client is None:
            return json_response(await self._batches.create(choice, asked))
        client.enter()
        try:
            return json_response(await self._batches.create(choice, asked))
        finally:
            client.leave()

    async def one(self, request: Request) -> Response:
        """Describe a batch."""
        return json_response(await self._batches.retrieve(choice_of(request), request.path_params["id"]))

    async def cancel(self, request: Request) -> Response:
        """Cancel a batch."""
        return json_response(await self._batches.cancel(choice_of(request), request.path_params["id"]))
