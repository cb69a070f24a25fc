"""/console/jobs and /console/lanes: bulk batches of all lanes, and pausing lanes."""

from __future__ import annotations

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from producer_api.console.access import require_read, who
from producer_api.console.actions.audit import note
from producer_api.console.actions.jobs import cancel, jobs_of
from producer_api.console.actions.letters import check_name
from producer_api.console.documents import LaneAction, decode_job_action, decode_lane_action
from producer_api.console.redis_access import ConsoleRedis
from producer_api.http.body import Disconnected
from producer_api.metrics import ApiMetrics
from producer_api.parsing.bulk_schemas import State
from producer_api.queue.admission import check_lane, find_model
from producer_api.queue.interface import ModelState, Queue
from producer_api.routes.models import json_response
from shared import keys
from shared.state import lanes
from shared.wire.outcomes import CLIENT_CLOSED

from .posting import Posting, options_of

LIST_PATH = "/console/jobs"
CANCEL_PATH = LIST_PATH + "/cancel"
PAUSE_PATH = "/console/lanes/pause"


class Cancelled(Struct, frozen=True):
    """A batch that runs nothing more, and how it stood."""

    id: str
    model: str
    lane: str
    was: State


class JobRoutes:
    """The routes."""

    def __init__(self, queue: Queue, redis: ConsoleRedis, posting: Posting, metrics: ApiMetrics) -> None:
        self._queue, self._redis, self._posting, self._metrics = queue, redis, posting, metrics

    def routes(self) -> list[BaseRoute]:
        """Return them all."""
        return [
            Route(LIST_PATH, self.list, methods=["GET"], include_in_schema=False),
            Route(CANCEL_PATH, self.cancel, methods=["POST"], include_in_schema=False),
            Route(PAUSE_PATH, self.pause, methods=["POST"], include_in_schema=False),
        ]

    async def list(self, request: Request) -> Response:
        """List the batches of a model."""
        require_read(request)
        state = self._model(options_of(request, "model").get("model", ""))
        return json_response(await jobs_of(self._redis, state.name, list(state.lanes)))

    def _model(self, name: str) -> ModelState:
        return find_model(self._queue.catalogue(), check_name(name, "model"), "")

    async def cancel(self, request: Request) -> Response:
        """Cancel a batch."""
        try:
            asked = await self._posting.read(request, decode_job_action)
        except Disconnected:
            return Response(status_code=CLIENT_CLOSED.status)
        state = self._model(asked.model)
        lane, batch_id = check_name(asked.lane, "lane"), check_name(asked.id, "id")
        stood = await cancel(self._redis, state.name, lane, batch_id)
        note(self._metrics, who(request), "cancel", f"batch {batch_id} of {state.name}, {lane}, which was {stood}")
        return json_response(Cancelled(batch_id, state.name, lane, stood))

    async def pause(self, request: Request) -> Response:
        """Pause a lane, or open it again. Consumers follow within two seconds."""
        try:
            asked = await self._posting.read(request, decode_lane_action)
        except Disconnected:
            return Response(status_code=CLIENT_CLOSED.status)
        state = self._model(asked.model)
        check_lane(state, check_name(asked.lane, "lane"))
        place, field = keys.lanes(state.name), lanes.paused_field(asked.lane)
        await self._redis.act(("HSET", place, field, lanes.PAUSED) if asked.paused else ("HDEL", place, field))
        note(self._metrics, who(request), "pause" if asked.paused else "resume", f"{state.name}, {asked.lane}")
        return json_response(LaneAction(state.name, asked.lane, asked.paused))
