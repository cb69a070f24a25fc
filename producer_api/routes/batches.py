"""/v1/models/{model}/batches: take a bulk batch in, say how it stands, give its results, cancel it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from time import perf_counter

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive

from producer_api.auth import Client
from producer_api.bulk.parts import PartDamaged
from producer_api.bulk.results import Order, Results
from producer_api.bulk.service import Bulk
from producer_api.http.body import BODY_TIMEOUT_S, Disconnected, declared_bytes
from producer_api.inference.query_options import query_options
from producer_api.lane_choice import LaneChoice
from producer_api.later.preferences import DEADLINE, KEEP, deadline_ms, duration_ms
from producer_api.webhooks import hook
from producer_api.webhooks.hook import Hooks
from shared.names import is_name
from shared.results.store import StoreError
from shared.wire.outcomes import CLIENT_CLOSED, REQUEST_TIMEOUT, RequestError, malformed

from .models import NOT_KEPT, json_response
from .requests import choice_of

LIST_PATH = "/v1/models/{model}/batches"
PATH = LIST_PATH + "/{id}"
RESULTS_PATH = PATH + "/results"

DEFAULT_KEEP_MS = 86_400_000

LEAST_BYTES_PER_S = 4096
PATIENCE_S = 60.0
"""A slow upload is given up, but not before that."""

_MOST_LINES = 999_999_999
_NUMBER = re.compile(r"[0-9]{1,9}\Z")

log = logging.getLogger("headrace.http")


class Batches:
    """The routes."""

    def __init__(self, bulk: Bulk, hooks: Hooks) -> None:
        self._bulk, self._hooks = bulk, hooks

    async def all(self, request: Request) -> Response:
        """Take a batch in, or list those there are."""
        model, choice = request.path_params["model"], choice_of(request)
        if request.method == "GET":
            return json_response(await self._bulk.list(model, choice))
        headers = dict(request.scope["headers"])
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
            raise malformed("Send the upload uncompressed, or as a zip.", "Content-Encoding")
        keep = headers.get(KEEP)
        keep_ms = DEFAULT_KEEP_MS if keep is None else duration_ms(keep)
        deadline = headers.get(DEADLINE)
        more = {} if deadline is None else {"window_ms": deadline_ms(deadline)}
        hook_text = self._hook(request)
        content_type = headers.get(b"content-type", b"")
        card, reader = self._bulk.admit(model, choice, content_type, declared_bytes(headers))
        query = request.scope["query_string"]
        if query:
            query_options(query)  # refused here, not once for each item
        client: Client | None = request.scope.get("api_client")
        if client is not None:
            client.enter()
        try:
            async with aclosing(chunks_of(request.receive)) as chunks:
                of_it = (model, choice, card, reader, query, keep_ms, hook_text, chunks)
                info = await self._bulk.take(*of_it, more=more)
        except Disconnected:
            return Response(status_code=CLIENT_CLOSED.status)
        finally:
            if client is not None:
                client.leave()
        response = json_response(info, 201)
        response.headers["Location"] = f"/v1/models/{info.model}/batches/{info.id}"
        return response

    def _hook(self, request: Request) -> str:
        """Return where webhooks of a batch go, as its record has it; empty for nowhere."""
        url = request.headers.get(hook.URL)
        if url is None:
            return ""
        events, include = request.headers.get(hook.EVENTS), request.headers.get(hook.INCLUDE)
        return self._hooks.read(url, events, include, is_batch=True).encode()

    async def one(self, request: Request) -> Response:
        """Say how a batch stands, or cancel it."""
        call = self._bulk.cancel if request.method == "DELETE" else self._bulk.status
        return json_response(await call(*_names(request)))

    async def results(self, request: Request) -> Response:
        """Send the results that are there."""
        model, choice, batch_id = _names(request)
        order, offset, most = _options(request)
        results = await self._bulk.results(model, choice, batch_id)
        end = min(results.count(order), offset + most)
        headers = {"Headrace-Next-Offset": str(max(offset, end)), **NOT_KEPT}
        lines = _until_gone(results, order, offset, end - offset)
        return StreamingResponse(lines, headers=headers, media_type="application/jsonl")


async def _until_gone(results: Results, order: Order, offset: int, most: int) -> AsyncIterator[bytes]:
    """Go through lines. What cannot be read breaks the answer off, so that nobody takes it for all."""
    if most <= 0:
        return
    try:
        with results.being_read():
            async for chunk in results.chunks(order, offset, most):
                yield chunk
    except (StoreError, PartDamaged) as error:
        log.error("Results of a batch cannot be read: %s", error)
        raise


async def chunks_of(receive: Receive) -> AsyncGenerator[bytes]:
    """Go through an upload as it comes; what stops coming, or trickles in, is given up: others need its place."""
    waited_s, size_bytes = 0.0, 0
    while True:
        asked_s = perf_counter()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                message = await receive()
        except TimeoutError:
            raise RequestError(REQUEST_TIMEOUT, f"Nothing of the upload came for {BODY_TIMEOUT_S:g} s.") from None
        waited_s += perf_counter() - asked_s  # without what storing it takes
        size_bytes += len(message.get("body", b""))
        if is_too_slow(size_bytes, waited_s):
            raise RequestError(REQUEST_TIMEOUT, f"An upload has to bring {LEAST_BYTES_PER_S} bytes a second.")
        if message["type"] != "http.request":
            raise Disconnected
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


def is_too_slow(size_bytes: int, waited_s: float) -> bool:
    """Say whether an upload of which so much has come within so long is given up."""
    return waited_s > PATIENCE_S and size_bytes < waited_s * LEAST_BYTES_PER_S


def _names(request: Request) -> tuple[str, LaneChoice, str]:
    """Return model, lane and batch."""
    model, batch_id = request.path_params["model"], request.path_params["id"]
    for name, field in ((model, "model"), (batch_id, "id")):
        if not is_name(name):
            raise malformed("A name is 1 to 64 letters, digits, '_' or '-'.", field)
    return model, choice_of(request), batch_id


def _options(request: Request) -> tuple[Order, int, int]:
    """Return order, offset and limit of results.

    Raises:
        RequestError: ``MALFORMED``.
    """
    given = request.query_params
    for name in given:
        if name not in ("order", "offset", "limit") or len(given.getlist(name)) > 1:
            raise malformed("Results take order, offset and limit, each once.", name[:80])
    order = given.get("order", Order.INPUT)
    if order not in Order._value2member_map_:
        raise malformed("order is input or completion.", "order")
    numbers = []
    for name, default in (("offset", 0), ("limit", _MOST_LINES)):
        text = given.get(name, str(default))
        if not _NUMBER.match(text) and text != str(default):
            raise malformed(f"{name} is a whole number.", name)
        numbers.append(int(text))
    return Order(order), numbers[0], numbers[1]
