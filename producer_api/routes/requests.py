"""GET and DELETE /v1/models/{model}/requests/{id}: ask for an answer again, and take a request back."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from producer_api.auth import Client
from producer_api.http.guarded_protocol import ON_GONE
from producer_api.inference.codec import Response as Encoded
from producer_api.inference.encoding import size_of
from producer_api.inference.errors import from_fault
from producer_api.inference.native import NATIVE
from producer_api.inference.negotiation import MAX_HEADER_BYTES, choose
from producer_api.inference.query_options import ID_RULE
from producer_api.parsing.schemas import RequestState
from producer_api.parsing.steps import StepRunner
from producer_api.queue.interface import Queue, Standing
from shared.keys import DEFAULT_LANE
from shared.names import is_name
from shared.wire.messages import Reply
from shared.wire.outcomes import ALREADY_ANSWERED, CLIENT_CLOSED, UNKNOWN_REQUEST, RequestError, malformed

from .models import NOT_KEPT, json_response

PATH = "/v1/models/{model}/requests/{id}"


class Requests:
    """The two routes."""

    def __init__(self, queue: Queue, step_runner: StepRunner) -> None:
        self._queue, self._step_runner = queue, step_runner

    async def answer(self, request: Request) -> Response:
        """Answer either method, as long as the client is there."""
        task, is_gone = asyncio.current_task(), False

        def gone() -> None:
            nonlocal is_gone
            is_gone = True
            if task is not None:
                task.cancel()

        request.scope[ON_GONE] = gone
        try:
            return await (self._cancel(request) if request.method == "DELETE" else self._find(request))
        except asyncio.CancelledError:
            if not is_gone:
                raise
            return Response(status_code=CLIENT_CLOSED.status)
        finally:
            del request.scope[ON_GONE]

    async def _find(self, request: Request) -> Response:
        """Give the stored answer, or say how the request stands."""
        media_type = choose(",".join(request.headers.getlist("accept")).encode("latin-1")[:MAX_HEADER_BYTES])
        model, request_id, lane = _names(request)
        found = await self._queue.find(model, request_id, lane)
        if isinstance(found, Reply):
            return await self._answer(found, request_id, media_type)
        if found is Standing.UNKNOWN:
            raise _unknown(request_id)
        response = json_response(RequestState(request_id, model, found.value), 202)
        response.headers["Retry-After"] = "1"
        return response

    async def _answer(self, reply: Reply, request_id: str, media_type: str) -> Response:
        if reply.fault is not None:
            raise from_fault(reply.fault, request_id)
        timing = reply.timing
        took_s = (timing.queue + timing.wait + timing.run) / 1e6
        made = NATIVE.encode(reply, media_type, took_s, None, is_short=False)
        if not isinstance(made, Encoded):
            made = await self._step_runner.run(made, size_of(reply))
        return Response(made.body, media_type=media_type, headers={"X-Request-Id": request_id, **NOT_KEPT})

    async def _cancel(self, request: Request) -> Response:
        """Take a request back."""
        model, request_id, lane = _names(request)
        stood = await self._queue.cancel(model, request_id, lane)
        if stood is Standing.UNKNOWN:
            raise _unknown(request_id)
        if stood is Standing.ANSWERED:
            raise RequestError(ALREADY_ANSWERED, "There is an answer already; GET gives it.", request_id=request_id)
        return json_response(RequestState(request_id, model, "cancelled"))


def _names(request: Request) -> tuple[str, str, str]:
    """Model, id and lane, which is that of the API key."""
    model, request_id = request.path_params["model"], request.path_params["id"]
    if not is_name(request_id):
        raise malformed(ID_RULE, "id")
    client: Client | None = request.scope.get("api_client")
    return model, request_id, DEFAULT_LANE if client is None else client.key.lane


def _unknown(request_id: str) -> RequestError:
    message = "No answer is stored under this id, and no request that a client sent with this id is in progress."
    return RequestError(UNKNOWN_REQUEST, message, request_id=request_id)
