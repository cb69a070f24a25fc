"""GET and DELETE /v1/models/{model}/requests/{id}: ask for an answer again, and take a request back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import Response

from producer_api import lane_choice
from producer_api.auth import Client
from producer_api.inference.codec import Response as Encoded
from producer_api.inference.context import AppContext
from producer_api.inference.dialects import Dialects
from producer_api.inference.errors import refused
from producer_api.inference.later.responses import accepted, asked_again, codec_of, ended_without_reply, response_to
from producer_api.inference.native import NATIVE
from producer_api.inference.negotiation import MAX_HEADER_BYTES, choose
from producer_api.inference.query_options import ID_RULE
from producer_api.lane_choice import LANE, LaneChoice
from producer_api.later.interface import LaterRequests
from producer_api.later.jobs import Job
from producer_api.later.listening import Listener
from producer_api.later.preferences import LONGEST_WAIT_S
from producer_api.parsing.schemas import RequestState
from producer_api.queue.admission import check_lane, find_model, refusal
from producer_api.queue.interface import ModelState, Queue, Standing
from shared.keys import DEFAULT_LANE
from shared.names import is_name
from shared.wire.messages import Reply
from shared.wire.outcomes import (
    ALREADY_ANSWERED,
    CLIENT_CLOSED,
    QUEUE_UNAVAILABLE,
    UNKNOWN_LANE,
    UNKNOWN_REQUEST,
    RequestError,
    malformed,
)

from .gone import ClientGone, ended_with_client
from .models import json_response

PATH = "/v1/models/{model}/requests/{id}"


class Requests:
    """The two routes.

    Args:
        context: the queue, and the later requests.
        dialects: the codecs that later requests may have come in.
    """

    def __init__(self, context: AppContext, dialects: Dialects) -> None:
        self._context, self._dialects = context, dialects
        self._queue, self._step_runner = context.queue, context.step_runner
        self._stored_replies = context.stored_replies

    async def answer(self, request: Request) -> Response:
        """Answer either method, as long as the client is there."""
        try:
            with ended_with_client(request.scope):
                return await self._looked_for(request)
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED.status)

    async def _looked_for(self, request: Request) -> Response:
        """Look for the request in the lanes where it may be, one after the other."""
        model, request_id = names_of(request)
        state = self._queue.catalogue().resolve(model, request_id)
        lanes = choice_of(request).lanes(() if state is None else state.batch_lanes)
        look = self._cancel if request.method == "DELETE" else self._find
        for lane in lanes[:-1]:
            try:
                return await look(request, lane)
            except RequestError as error:
                if error.outcome not in (UNKNOWN_REQUEST, UNKNOWN_LANE):
                    raise
        return await look(request, lanes[-1])

    async def _find(self, request: Request, lane: str) -> Response:
        """Give the stored answer, or say how the request stands."""
        media_type = choose(",".join(request.headers.getlist("accept")).encode("latin-1")[:MAX_HEADER_BYTES])
        model, request_id = names_of(request)
        later, wait_s = self._context.later, _wait_s(request)
        if later is not None:
            state = place(self._queue, model, request_id, lane)
            job, reply = await later.find(state.name, lane, request_id)
            if wait_s and job is not None and job.state.is_open:
                job, reply = await self._wait(request, later, state.name, lane, job, wait_s)
            if job is not None:
                return await self._result(state, lane, job, reply, media_type)
        found = await self._queue.find(model, request_id, lane)
        if isinstance(found, Reply):
            found = await self._stored_replies.whole(model, lane, found)
            return _whole(await response_to(found, request_id, NATIVE, media_type, None, self._step_runner))
        if found is Standing.UNKNOWN:
            raise unknown(request_id)
        response = json_response(RequestState(request_id, model, found.value), 202)
        response.headers["Retry-After"] = "1"
        return response

    async def _wait(
        self, request: Request, later: LaterRequests, model: str, lane: str, job: Job, wait_s: int
    ) -> tuple[Job | None, Reply | None]:
        """Wait for a later request to end, and look again."""
        with listening(self._context, request, model, lane, job.id) as listener:
            found = await later.find(model, lane, job.id)
            if found[0] is None:
                return found
            listener.seen(found[0])
            await listener.end(wait_s)
        return await later.find(model, lane, job.id)

    async def _result(self, state: ModelState, lane: str, job: Job, reply: Reply | None, media_type: str) -> Response:
        """Give the answer to a later request in the dialect that it came in, or say how it stands."""
        codec = codec_of(job, self._dialects)
        if codec is not NATIVE and job.asked is not None:
            media_type = job.asked.media_type
        try:
            if reply is not None:
                reply = await self._stored_replies.whole(state.name, lane, reply)
                asked = asked_again(codec, job.asked)
                return _whole(await response_to(reply, job.id, codec, media_type, asked, self._step_runner))
            if job.state.is_open:
                return _whole(accepted(state, job.id, job.state, job.position))
            raise ended_without_reply(job)
        except RequestError as error:
            return _whole(refused(error, codec))

    async def _cancel(self, request: Request, lane: str) -> Response:
        """Take a request back."""
        model, request_id = names_of(request)
        stood = await self._queue.cancel(model, request_id, lane)
        if stood is Standing.UNKNOWN:
            raise unknown(request_id)
        if stood is Standing.ANSWERED:
            raise RequestError(ALREADY_ANSWERED, "There is an answer already; GET gives it.", request_id=request_id)
        return json_response(RequestState(request_id, model, "cancelled"))


def names_of(request: Request) -> tuple[str, str]:
    """Model and id."""
    model, request_id = request.path_params["model"], request.path_params["id"]
    if not is_name(request_id):
        raise malformed(ID_RULE, "id")
    return model, request_id


def choice_of(request: Request) -> LaneChoice:
    """Return the lane of a request: that of the API key, or the one that it chooses."""
    asked = request.headers.get(LANE.decode())
    return lane_choice.choice_of(None if asked is None else asked.encode("latin-1"), request.scope.get("api_client"))


def _wait_s(request: Request) -> int:
    """Return for how many seconds the client waits for the end of a later request."""
    text = request.query_params.get("wait", "0")
    if not re.fullmatch("[0-9]{1,9}", text):
        raise malformed(f"wait is a whole number of seconds, and {LONGEST_WAIT_S} at most counts.", "wait")
    return min(int(text), LONGEST_WAIT_S)


@contextmanager
def listening(context: AppContext, request: Request, model: str, lane: str, request_id: str) -> Iterator[Listener]:
    """Have a client wait for a later request, if so many may.

    Raises:
        RequestError: ``OVERLOADED`` or ``CLIENT_LIMIT``.
    """
    assert context.later is not None
    client: Client | None = request.scope.get("api_client")
    holder, most = (None, None) if client is None else (client.key.digest, client.key.max_in_flight)
    context.waiting.enter(holder, most)
    try:
        listener = context.later.listen(model, lane, request_id)
        try:
            yield listener
        finally:
            listener.close()
    finally:
        context.waiting.leave(holder)


def place(queue: Queue, model: str, request_id: str, lane: str) -> ModelState:
    """Return the model that has a request, if it has such a lane.

    Raises:
        RequestError: ``UNKNOWN_MODEL``, ``UNKNOWN_LANE``, ``QUEUE_UNAVAILABLE``.
    """
    catalogue = queue.catalogue()
    state = find_model(catalogue, model, request_id)
    if not catalogue.redis_ok:
        raise refusal(QUEUE_UNAVAILABLE, "Redis does not answer.")
    if lane != DEFAULT_LANE:
        check_lane(state, lane)
    return state


def _whole(response: Encoded) -> Response:
    """Return a codec's response as one of ASGI."""
    made = Response(response.body, response.status, media_type=response.media_type)
    made.raw_headers += response.headers
    if response.request_id is not None:
        made.raw_headers.append((b"x-request-id", response.request_id.encode()))
    return made


def unknown(request_id: str) -> RequestError:
    message = "No answer is stored under this id, and no request that a client sent with this id is in progress."
    return RequestError(UNKNOWN_REQUEST, message, request_id=request_id)
