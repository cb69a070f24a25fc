"""The Open Inference Protocol besides inference: health, metadata, configuration, statistics, the index of models."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer_api.http.rules import Rules
from producer_api.inference.open_inference import metadata as described
from producer_api.inference.open_inference.metadata import (
    ModelReady,
    ModelStatistics,
    ServerLive,
    ServerReady,
    StatisticsResponse,
)
from producer_api.inference.statistics import Statistics
from producer_api.queue.admission import card_of, check_version, find_model, no_model_known
from producer_api.queue.interface import ModelState, Queue
from shared.state.cards import Card
from shared.version import __version__

from .models import json_response
from .service import is_ready

MODEL = "/v2/models/{model}"
VERSION = f"{MODEL}/versions/{{version}}"


class OpenInferenceService:
    """The routes. They answer from the latest snapshot, and from what this front end has counted."""

    def __init__(self, queue: Queue, rules: Rules, statistics: Statistics) -> None:
        self._queue, self._rules, self._statistics = queue, rules, statistics

    def routes(self) -> list[Route]:
        """Return all of them."""
        routes = [
            Route("/v2", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models/stats", self.all_statistics),
            Route("/v2/repository/index", self.index, methods=["POST"]),
        ]
        for path in (MODEL, VERSION):
            routes += [
                Route(path, self.metadata),
                Route(f"{path}/ready", self.model_ready),
                Route(f"{path}/config", self.configuration),
                Route(f"{path}/stats", self.statistics),
            ]
        return routes

    async def server(self, request: Request) -> Response:
        """Describe the server."""
        return json_response(described.server_metadata(__version__))

    async def live(self, request: Request) -> Response:
        """Answer as long as the process runs."""
        return json_response(ServerLive(True))

    async def ready(self, request: Request) -> Response:
        """Answer 200 if ``/readyz`` does."""
        ready = is_ready(self._queue.catalogue(), self._rules)
        return json_response(ServerReady(ready), 200 if ready else 503)

    async def model_ready(self, request: Request) -> Response:
        """Answer 200 if the model takes requests and answers them."""
        state = self._state(request)
        return json_response(ModelReady(state.name, state.is_ready), 200 if state.is_ready else 503)

    async def metadata(self, request: Request) -> Response:
        """Describe a model."""
        return json_response(described.metadata(*self._described(request)))

    async def configuration(self, request: Request) -> Response:
        """Return a model's configuration."""
        return json_response(described.configuration(self._described(request)[1]))

    async def statistics(self, request: Request) -> Response:
        """Return what was counted of a model."""
        state, card = self._described(request)
        return json_response(StatisticsResponse([self._counted(state, card)]))

    async def all_statistics(self, request: Request) -> Response:
        """Return what was counted of all models."""
        states = sorted(self._known().items())
        return json_response(
            StatisticsResponse([self._counted(state, state.card) for _, state in states if state.card is not None])
        )

    async def index(self, request: Request) -> Response:
        """List all models."""
        states = sorted(self._known().items())
        return json_response([described.repository_entry(state) for _, state in states])

    def _counted(self, state: ModelState, card: Card) -> ModelStatistics:
        return described.statistics(state, card, self._statistics.of(state.name))

    def _known(self) -> dict[str, ModelState]:
        catalogue = self._queue.catalogue()
        if not catalogue.models and not catalogue.redis_ok:
            raise no_model_known()
        return dict(catalogue.models)

    def _state(self, request: Request) -> ModelState:
        """Return the model that the path names.

        Raises:
            RequestError: ``UNKNOWN_MODEL``, of an unknown version too, or ``QUEUE_UNAVAILABLE``.
        """
        state = find_model(self._queue.catalogue(), request.path_params["model"], "")
        if "version" in request.path_params:
            check_version(state, request.path_params["version"])
        return state

    def _described(self, request: Request) -> tuple[ModelState, Card]:
        state = self._state(request)
        return state, card_of(state)
