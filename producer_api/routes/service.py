"""Routes about the service itself: health, readiness, version, metrics, documentation."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from producer_api.auth import KeyCheck
from producer_api.docs.page import policy
from producer_api.http.rules import Rules
from producer_api.inference.encoding import json_encoder
from producer_api.inference.negotiation import wants_openmetrics
from producer_api.metrics import ApiMetrics
from producer_api.parsing.service_schemas import Health, Readiness, VersionInfo
from producer_api.queue.interface import Catalogue, Condition, Queue
from shared.state.desired_state import Serving
from shared.version import __version__
from shared.wire.messages import VERSION
from shared.wire.outcomes import NOT_FOUND, RequestError

from .models import NOT_KEPT, json_response, summaries

DRAINING = "This front end is draining: it answers what comes, and stops soon."


def readiness(catalogue: Catalogue) -> Readiness:
    """Say whether a request sent now can be answered.

    Redis answers and has memory left, and a described model has a live worker that answers.
    """
    models = summaries(catalogue)
    reasons = []
    if not catalogue.redis_ok:
        reasons.append("Redis does not answer.")
    if catalogue.memory_full:
        reasons.append("Redis is nearly out of memory.")
    if not models:
        reasons.append("No model has been served yet.")
    elif not any(model.ready for model in models):
        failed = _failed(catalogue)
        drained = [model.name for model in models if model.serving is Serving.DRAINING and model.workers]
        silent = [model.name for model in models if catalogue.models[model.name].is_open]
        loading = {model.name: model.ready_in_s for model in models if model.state is Condition.LOADING}
        away = [model.name for model in models if model.name not in {*drained, *failed, *silent, *loading}]
        reasons += [f"Model {name} is loading, probably for {left} s more." for name, left in loading.items()]
        reasons += [f"Model {name} has failed. {why}" for name, why in failed.items()]
        if away:
            reasons.append(f"No model has a live worker: {', '.join(away)}.")
        reasons += [f"Requests for {name} that may take {left} s wait for a worker." for name, left in _held(catalogue)]
        if silent:
            reasons.append(f"Requests are taken and none is answered: {', '.join(silent)}.")
        if drained:
            reasons.append(f"Being drained: {', '.join(drained)}.")
    return Readiness(not reasons, catalogue.redis_ok, reasons, models)


def is_ready(catalogue: Catalogue, rules: Rules) -> bool:
    """Say whether ``/readyz`` is 200."""
    return not rules.is_draining and readiness(catalogue).ready


def _held(catalogue: Catalogue) -> list[tuple[str, int]]:
    """Return the models that nobody starts and whose requests wait all the same, and what a start takes in s."""
    states = sorted(catalogue.models.items())
    return [(name, one.cold.in_s) for name, one in states if one.cold is not None and not one.cold.is_coming]


def _failed(catalogue: Catalogue) -> dict[str, str]:
    """Return what is said of each model that has failed and has no live worker, by its name."""
    states = sorted(catalogue.models.items())
    return {name: min(state.failures.values()) for name, state in states if state.condition is Condition.FAILED}


def retry_after_s(catalogue: Catalogue) -> int:
    """Return the seconds after which one of the models that load will probably be ready; 1 when none loads."""
    left = [state.ready_in_s for state in catalogue.models.values() if state.condition is Condition.LOADING]
    return min((one for one in left if one is not None), default=1)


def in_brief(state: Readiness) -> Readiness:
    """Show only whether it is ready: names of models and the lengths of their queues are not public."""
    reasons = [] if state.ready else ["Not ready; with a valid API key the reasons are told."]
    return Readiness(state.ready, None, reasons, [])


class Service:
    """The routes.

    Args:
        document, page: the OpenAPI document, and the documentation made from it.
        key_check: decides which requests may see the state of each model; None for all.
    """

    def __init__(
        self,
        queue: Queue,
        metrics: ApiMetrics,
        rules: Rules,
        commit: str | None,
        document: dict[str, object],
        page: str,
        key_check: KeyCheck | None = None,
    ) -> None:
        self._queue, self._metrics, self._rules, self._key_check = queue, metrics, rules, key_check
        self._version = VersionInfo("headrace", __version__, VERSION, commit)
        self._document, self._page = json_encoder.encode(document), page
        self._page_headers = {"Content-Security-Policy": policy(page), "Referrer-Policy": "no-referrer"}

    async def health(self, request: Request) -> Response:
        """Answer as long as the process runs."""
        return json_response(Health("ok"))

    async def ready(self, request: Request) -> Response:
        """Answer 200 if inference can work, else 503; where API keys are required, reasons only with a valid one."""
        catalogue = self._queue.catalogue()
        state = readiness(catalogue)
        if self._key_check is not None:
            credentials = (value for name, value in request.scope["headers"] if name == b"authorization")
            state = state if self._key_check.knows(credentials) else in_brief(state)
        if self._rules.is_draining:
            state = Readiness(False, state.redis, [DRAINING, *state.reasons], state.models)
        response = json_response(state, 200 if state.ready else 503)
        if not state.ready:
            response.headers["Retry-After"] = str(1 if self._rules.is_draining else retry_after_s(catalogue))
        return response

    async def ping(self, request: Request) -> Response:
        """Answer 200 if ``ready`` does, else 503, without reasons, in TorchServe's words: hosting platforms look at the
        status alone."""
        ready = is_ready(self._queue.catalogue(), self._rules)
        return json_response(Health("Healthy" if ready else "Unhealthy"), 200 if ready else 503)

    async def version(self, request: Request) -> Response:
        """Say what runs."""
        return json_response(self._version)

    async def metrics(self, request: Request) -> Response:
        """Expose the metrics."""
        accept = ",".join(request.headers.getlist("accept")).encode("latin-1")
        text, content_type = self._metrics.expose(as_openmetrics=wants_openmetrics(accept))
        return Response(text, headers={"Content-Type": content_type, "Vary": "Accept", **NOT_KEPT})

    async def metrics_elsewhere(self, request: Request) -> Response:
        """Say where the metrics are: on a shared port a request reaches any one of the front ends.

        Raises:
            RequestError: ``NOT_FOUND``.
        """
        raise RequestError(
            NOT_FOUND,
            "Several front ends share this port, and each counts for itself: HEADRACE_API_METRICS_PORT is the port of "
            "the first one's metrics, and each further one has the next.",
        )

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        return Response(self._document, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        """Return the documentation page. It loads nothing from elsewhere, and its policy tells the browser so."""
        return HTMLResponse(self._page, headers=self._page_headers)
