"""GET /v1/models and GET /v1/models/{model}."""

from __future__ import annotations

from time import time

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from producer_api.inference.encoding import json_encoder
from producer_api.parsing.service_schemas import ModelEntry, ModelInfo, ModelList, ModelSummary
from producer_api.queue.admission import card_of, find_model, no_model_known
from producer_api.queue.interface import Catalogue, ModelState, Queue


def summaries(catalogue: Catalogue) -> list[ModelSummary]:
    """One line per model, sorted by name."""
    return [_summary(state) for _, state in sorted(catalogue.models.items())]


def _summary(state: ModelState) -> ModelSummary:
    card = state.card
    return ModelSummary(
        name=state.name,
        version=card.version if card else None,
        family=card.family if card else None,
        precision=card.precision if card else None,
        workers=state.workers,
        queued=state.queued,
        ready=state.is_ready,
        serving=state.serving,
        state=state.condition,
        ready_in_s=UNSET if state.ready_in_s is None else state.ready_in_s,
        held_until_s=UNSET if state.cold is None else state.cold.in_s,
        failures=list(state.failures.values()) or UNSET,
    )


OWNER = "headrace"
"""Who owns the models, as OpenAI's clients read it."""


class Models:
    """The two routes; they answer from the latest snapshot and ask Redis nothing."""

    def __init__(self, queue: Queue) -> None:
        self._queue, self._since_s = queue, int(time())

    def _entry(self, name: str) -> ModelEntry:
        return ModelEntry(name, "model", self._since_s, OWNER)

    async def list(self, request: Request) -> Response:
        """List all models."""
        catalogue = self._queue.catalogue()
        if not catalogue.models and not catalogue.redis_ok:
            raise no_model_known()
        entries = [self._entry(name) for name in sorted(catalogue.models)]
        return json_response(ModelList(summaries(catalogue), "list", entries))

    async def one(self, request: Request) -> Response:
        """Describe one model."""
        name = request.path_params["model"]
        state = find_model(self._queue.catalogue(), name, "")
        return json_response(ModelInfo.of(card_of(state), state, self._entry(state.name)))


NOT_KEPT = {"Cache-Control": "no-store"}


def json_response(value: object, status: int = 200) -> Response:
    """Answer with ``value`` as JSON."""
    return Response(json_encoder.encode(value), status, NOT_KEPT, "application/json")
