"""GET /v1/models/{model}/requests/{id}/explain: where the time of a request went."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from producer_api.console.access import require_read
from producer_api.inference.context import AppContext
from producer_api.inference.query_options import ID_RULE
from producer_api.later.jobs import State
from producer_api.queue.admission import find_model, no_model_known
from producer_api.queue.interface import Standing
from producer_api.request_log.redis_log import FLUSH_S, Found, RedisRequestLog
from producer_api.request_log.story import Explained, Story, from_reply, stories
from shared.keys import DEFAULT_LANE
from shared.names import is_name
from shared.wire.messages import Reply
from shared.wire.outcomes import CLIENT_CLOSED, UNKNOWN_REQUEST, RequestError, malformed
from shared.wire.request_log import Half

from .gone import ClientGone, ended_with_client
from .models import json_response
from .requests import choice_of, names_of, place

PATH = "/v1/models/{model}/requests/{id}/explain"
CONSOLE_PATH = "/console/requests/{id}"

MOST_PLACES = 64
"""Lanes in which a request is looked for that nobody has logged yet."""

_STATES = {
    State.DONE: "answered",
    State.FAILED: "failed",
    State.CANCELLED: "cancelled",
    State.EXPIRED: "failed",
}

Place = tuple[str, str]
"""Model and lane."""


class Explain:
    """The two routes.

    Args:
        request_log: None where there is none; then only what is in flight or still stored is known.
    """

    def __init__(self, context: AppContext, request_log: RedisRequestLog | None) -> None:
        self._context, self._queue, self._log = context, context.queue, request_log

    async def of_key(self, request: Request) -> Response:
        """Explain a request of one model, in the lanes of the caller's key."""
        model, request_id = names_of(request)
        choice = choice_of(request)
        state = place(self._queue, model, request_id, choice.lane)
        lanes = choice.lanes(state.batch_lanes)
        places = [(state.name, lane) for lane in lanes if lane in state.lanes]
        return await self._answer(request, [state.name], request_id, places, lanes)

    async def for_console(self, request: Request) -> Response:
        """Explain a request of any lane, of one model or of all."""
        require_read(request)
        request_id, model = request.path_params["id"], request.query_params.get("model", "")
        if not is_name(request_id):
            raise malformed(ID_RULE, "id")
        catalogue = self._queue.catalogue()
        if model:
            state = find_model(catalogue, model, request_id)
            places = [(state.name, lane) for lane in state.lanes]
            return await self._answer(request, [state.name], request_id, places, None)
        if not catalogue.models and not catalogue.redis_ok:
            raise no_model_known()
        names = sorted(catalogue.models)
        places = [(name, DEFAULT_LANE) for name in names]
        return await self._answer(request, names, request_id, places, None)

    async def _answer(
        self,
        request: Request,
        models: Sequence[str],
        request_id: str,
        places: Sequence[Place],
        lanes: Collection[str] | None,
    ) -> Response:
        try:
            with ended_with_client(request.scope):
                response = json_response(await self._explained(models, request_id, places, lanes))
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED.status)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _explained(
        self, models: Sequence[str], request_id: str, places: Sequence[Place], lanes: Collection[str] | None
    ) -> Explained:
        logged: Mapping[str, Found] = {}
        if self._log is not None:
            logged = await self._log.look_up(models, request_id)
            if not _is_whole(_told(logged, lanes)):  # it may have ended just now
                await asyncio.sleep(2 * FLUSH_S)
                logged = await self._log.look_up(models, request_id, logged)
        told = _told(logged, lanes)
        if not told or told[0].state in ("queued", "unknown"):
            stands = await self._standing(request_id, places)
            told = [*stands, *(one for one in told if not stands or one.state not in ("queued", "unknown"))]
        if not told:
            raise RequestError(UNKNOWN_REQUEST, self._nothing(models, logged), request_id=request_id)
        missed = sorted(model for model, found in logged.items() if not found.is_complete)
        return Explained(told, f"Looking took too long; not all was read of: {', '.join(missed)}." if missed else UNSET)

    async def _standing(self, request_id: str, places: Sequence[Place]) -> list[Story]:
        """Return the stories of requests that are in flight, or whose answers are stored."""
        told = []
        for model, lane in places[:MOST_PLACES]:
            story = await self._stands(model, lane, request_id)
            if story is not None:
                told.append(story)
        return told

    async def _stands(self, model: str, lane: str, request_id: str) -> Story | None:
        if self._context.later is not None:
            job, reply = await self._context.later.find(model, lane, request_id)
            if reply is None and job is not None:
                state = job.state.value if job.state.is_open else _STATES[job.state]
                return Story(model=model, lane=lane, id=request_id, state=state, outcome=job.code or UNSET)
            if reply is not None:
                return from_reply(model, lane, reply)
        found = await self._queue.find(model, request_id, lane)
        if isinstance(found, Reply):
            return from_reply(model, lane, found)
        if found in (Standing.QUEUED, Standing.CLAIMED):
            state = "queued" if found is Standing.QUEUED else "running"
            return Story(model=model, lane=lane, id=request_id, state=state)
        return None

    def _nothing(self, models: Sequence[str], logged: Mapping[str, Found]) -> str:
        """Say how far back is known what became of requests."""
        begins = "Nothing is known of a request with this id"
        if self._log is None:
            return f"{begins}: there is no request log here (HEADRACE_REQUEST_LOG_MB is 0), and no answer is stored."
        reach = [found.now_ms - found.oldest_ms for found in logged.values() if found.oldest_ms is not None]
        log = f"The request log of {models[0]}" if len(models) == 1 else "The longest request log"
        if not reach:
            return f"{begins}: the request log is empty."
        span = duration(max(reach) / 1000)
        if all(found.is_complete for found in logged.values()):
            return f"{begins}. {log} reaches back {span}; older requests have left it."
        return f"{begins}. {log} was read as far back as {span}, since looking took too long; name the model."


def _told(logged: Mapping[str, Found], lanes: Collection[str] | None) -> list[Story]:
    """Return the stories of what was found, of some lanes or of all, the newest first."""
    told = [story for model, found in logged.items() for story in stories(model, _of(found, lanes), found.batch_lanes)]
    return sorted(told, key=lambda story: -(story.at_ms or 0))


def _of(found: Found, lanes: Collection[str] | None) -> list[Half]:
    return [one for one in found.halves if lanes is None or one.lane in lanes]


def _is_whole(told: Sequence[Story]) -> bool:
    """Say whether both sides have said what they know of the newest."""
    return bool(told) and told[0].front_end is not UNSET and (told[0].worker is not UNSET or not told[0].spans)


def duration(seconds: float) -> str:
    """Return a duration in words."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0.0, seconds):.1f} s"


def routes(context: AppContext, request_log: RedisRequestLog | None) -> list[BaseRoute]:
    """Make the routes."""
    made = Explain(context, request_log)
    return [
        Route(PATH, made.of_key, methods=["GET"]),
        Route(CONSOLE_PATH, made.for_console, methods=["GET"], include_in_schema=False),
    ]
