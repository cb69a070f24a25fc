"""The OpenAPI 3.1 document. Its schemas come from the classes that decode requests and encode answers."""

from __future__ import annotations

from typing import Any

import msgspec

from producer_api.inference.negotiation import IMAGES, JSON, MSGPACK, RAW, X_MSGPACK
from producer_api.inference.request_ids import MOST_KEY_BYTES
from producer_api.parsing.schemas import (
    MAX_TOP_K,
    ErrorResponse,
    Health,
    ModelInfo,
    ModelList,
    PredictRequest,
    PredictResponse,
    Readiness,
    RequestState,
    VersionInfo,
)
from shared.names import NAME_PATTERN
from shared.settings import Settings
from shared.version import __version__
from shared.wire import outcomes
from shared.wire.outcomes import Outcome

_REF = "#/components/schemas/{name}"
_SHAPES = (
    *(PredictRequest, PredictResponse, RequestState, ErrorResponse, ModelList, ModelInfo),
    *(Health, Readiness, VersionInfo),
)

_MEANINGS: dict[Outcome, str] = {
    outcomes.MALFORMED: "The body or the query cannot be parsed.",
    outcomes.UNAUTHORIZED: "This front end asks for an API key, and none that is valid was sent.",
    outcomes.UNKNOWN_MODEL: "There is no such model.",
    outcomes.UNKNOWN_LANE: "The key's requests go to a lane that this model does not have.",
    outcomes.NOT_ACCEPTABLE: "Accept allows neither JSON nor msgpack.",
    outcomes.REQUEST_TIMEOUT: "The body did not arrive in time.",
    outcomes.BODY_TOO_LARGE: "The body is over the limit.",
    outcomes.UNSUPPORTED_MEDIA_TYPE: "The model does not take this content type.",
    outcomes.MISDIRECTED: "Host names another place; without API keys a front end answers to names of its own only.",
    outcomes.INVALID_INPUT: "The input does not fit the model; the field is named.",
    outcomes.KEY_REUSED: "Another body was sent with this Idempotency-Key.",
    outcomes.HEADERS_TOO_LARGE: "The head of the request is over its limit.",
    outcomes.LANE_FULL: "Too many requests wait already.",
    outcomes.CLIENT_LIMIT: "Too many requests with this API key wait already.",
    outcomes.WAIT_TOO_LONG: "The requests ahead need longer than the answer may take.",
    outcomes.CANCELLED: "Somebody cancelled the request; it leaves no answer.",
    outcomes.MODEL_ERROR: "The model failed on this input.",
    outcomes.CRASHED: "The process that ran the model died of this input, each time.",
    outcomes.INTERNAL: "A fault of the service; it has been logged.",
    outcomes.QUEUE_UNAVAILABLE: "Redis does not answer.",
    outcomes.QUEUE_OUT_OF_MEMORY: "Redis is full.",
    outcomes.NO_WORKER: "No worker serves the model now.",
    outcomes.LOADING: "The model is configured and still loading; Retry-After says how long that will probably take.",
    outcomes.DRAINING: "An operator drains the model.",
    outcomes.OVERLOADED: "This front end holds too many requests, or is receiving or coding too much.",
    outcomes.SHUTTING_DOWN: "This front end is stopping.",
    outcomes.EXPIRED: "The request waited longer than it was worth and was not run.",
    outcomes.UNKNOWN_OUTCOME: "No answer came in time; whether the model ran is unknown. Ask again with the same id.",
}
"""The outcomes of a predict request, for the document and the documentation page."""

_BY_ID: dict[Outcome, str] = {
    outcomes.UNKNOWN_REQUEST: "No answer is stored under this id, and no request with it is known to be in progress.",
    outcomes.ALREADY_ANSWERED: "There is an answer already; it stays.",
}
"""Outcomes that only requests by id have."""


def document(settings: Settings) -> dict[str, Any]:
    """Build the document.

    Args:
        settings: the limits that the document shows.
    """
    _, schemas = msgspec.json.schema_components(_SHAPES, ref_template=_REF)
    model = {
        "name": "model",
        "in": "path",
        "required": True,
        "description": "Name of a model.",
        "schema": {"type": "string"},
        "example": "imagenet",
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace",
            "version": __version__,
            "description": "Inference over a message queue with dynamic batching. A request goes onto a Redis stream, "
            "is batched with others by a consumer, and the answer comes back here.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "inference", "description": "Ask a model, and find out which models there are."},
            {"name": "service", "description": "The service itself."},
        ],
        "paths": {
            "/v1/models/{model}/predict": {"parameters": [model], "post": _predict(settings)},
            "/v1/models/{model}/requests/{id}": {"parameters": [model, _ID], "get": _find(), "delete": _cancel()},
            "/v1/models": {
                "get": _get("List models", "inference", "listModels", "All models.", "ModelList", _unavailable())
            },
            "/v1/models/{model}": {
                "parameters": [model],
                "get": _get(
                    "Describe a model",
                    "inference",
                    "describeModel",
                    "Shapes, labels, precision, batch settings and the number of live workers.",
                    "ModelInfo",
                    _errors(outcomes.UNKNOWN_MODEL, outcomes.QUEUE_UNAVAILABLE, outcomes.NO_WORKER, outcomes.LOADING),
                ),
            },
            "/healthz": {"get": _get("Is the process alive?", "service", "health", "It runs.", "Health")},
            "/readyz": {
                "get": _get(
                    "Can it infer?",
                    "service",
                    "ready",
                    "Redis answers and has memory left, and a model has a live worker.",
                    "Readiness",
                    {
                        "503": {
                            "description": "Not ready; the reasons are in the body.",
                            "headers": _retry_after(),
                            "content": _content("Readiness"),
                        }
                    },
                )
            },
            "/version": {"get": _get("What runs?", "service", "version", "Version and commit.", "VersionInfo")},
            "/metrics": {"get": _text("Metrics", "metrics", "Metrics in Prometheus's text format.", "text/plain")},
            "/openapi.json": {"get": _text("This document", "openapi", "The OpenAPI document.", JSON)},
            "/docs": {"get": _text("Documentation", "docs", "A page made from this document.", "text/html")},
        },
        "components": {"schemas": schemas},
    }


def _predict(settings: Settings) -> dict[str, Any]:
    limit = f"At most {settings.max_body_bytes} bytes."
    picture = {"schema": {"type": "string", "format": "binary"}}
    packed = {
        "schema": {"type": "object"},
        "example": {"image": "(bytes of a picture)", "parameters": {"top_k": 3}},
    }
    answer = _content("PredictResponse")
    return {
        "tags": ["inference"],
        "operationId": "predict",
        "summary": "Ask a model",
        "description": "Send a picture, raw tensor bytes, JSON or msgpack. Options of JSON and msgpack bodies are "
        "members of `parameters`; for other bodies they are query parameters.",
        "parameters": _options(settings),
        "requestBody": {
            "required": True,
            "description": f"{limit} msgpack has the members of the JSON form; tensor data and `image` may be bytes.",
            "content": {
                **dict.fromkeys(IMAGES, picture),
                RAW: {"schema": {"type": "string", "format": "binary"}},
                JSON: {"schema": {"$ref": _REF.format(name="PredictRequest")}, "example": _EXAMPLE},
                MSGPACK: packed,
                X_MSGPACK: packed,
            },
        },
        "responses": {
            "200": {
                "description": "The answer, in JSON or msgpack as Accept asks.",
                "headers": {"X-Request-Id": {"description": "Id of the request.", "schema": {"type": "string"}}},
                "content": {
                    **answer,
                    MSGPACK: {"schema": {"type": "object"}},
                    X_MSGPACK: {"schema": {"type": "object"}},
                },
            },
            **_errors(*_MEANINGS),
        },
    }


_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "Id of a request: your own, or the one that an error named.",
    "schema": {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
}


def _find() -> dict[str, Any]:
    return {
        "tags": ["inference"],
        "operationId": "findAnswer",
        "summary": "Ask for an answer again",
        "description": "Answers are kept for the request's `timeout_ms` and a minute more. A stored refusal of the "
        "model is answered as it was.",
        "responses": {
            "200": {
                "description": "The stored answer, in JSON or msgpack as Accept asks.",
                "content": {**_content("PredictResponse"), MSGPACK: {"schema": {"type": "object"}}},
            },
            "202": {
                "description": "The request is in progress.",
                "headers": _retry_after(),
                "content": _content("RequestState"),
            },
            **_errors(
                *(outcomes.MALFORMED, outcomes.UNAUTHORIZED, outcomes.UNKNOWN_MODEL, outcomes.UNKNOWN_REQUEST),
                *(outcomes.NOT_ACCEPTABLE, outcomes.UNSUPPORTED_MEDIA_TYPE, outcomes.INVALID_INPUT),
                *(outcomes.MODEL_ERROR, outcomes.CRASHED, outcomes.INTERNAL, outcomes.QUEUE_UNAVAILABLE),
            ),
        },
    }


def _cancel() -> dict[str, Any]:
    return {
        "tags": ["inference"],
        "operationId": "cancel",
        "summary": "Cancel a request",
        "description": "A request with your own id or `Idempotency-Key`. It does not run if it has not begun, "
        "leaves no answer, and its id is free again. Clients that wait for it get 499 `cancelled`.",
        "responses": {
            "200": {"description": "It is cancelled.", "content": _content("RequestState")},
            **_errors(
                *(outcomes.MALFORMED, outcomes.UNAUTHORIZED, outcomes.UNKNOWN_MODEL, outcomes.UNKNOWN_REQUEST),
                *(outcomes.ALREADY_ANSWERED, outcomes.QUEUE_UNAVAILABLE),
            ),
        },
    }


_EXAMPLE = {
    "inputs": [{"name": "input", "shape": [5], "datatype": "UINT8", "data": [104, 101, 108, 108, 111]}],
    "parameters": {"timeout_ms": 5000},
}


def _options(settings: Settings) -> list[dict[str, Any]]:
    def option(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}

    return [
        option(
            "top_k",
            "How many classes a classifier returns.",
            {"type": "integer", "minimum": 1, "maximum": MAX_TOP_K},
        ),
        option(
            "timeout_ms",
            "How long the answer is worth waiting for, in milliseconds.",
            {
                "type": "integer",
                "minimum": 1,
                "maximum": settings.max_timeout_ms,
                "default": settings.default_timeout_ms,
            },
        ),
        option(
            "id",
            "Your own name of the request; asking again with it is safe.",
            {"type": "string", "pattern": f"^{NAME_PATTERN}$"},
        ),
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "Stands for this request, byte for byte: a repeat with the same key gets the same answer "
            "and runs nothing; another request under the same key is refused. Send it instead of `id`, not with it.",
            "schema": {"type": "string", "minLength": 1, "maxLength": MOST_KEY_BYTES, "pattern": "^[!-~]+$"},
        },
    ]


def _content(schema: str) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": _REF.format(name=schema)}}}


def _get(
    summary: str, tag: str, name: str, description: str, schema: str, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    ok = {"description": description, "content": _content(schema)}
    return {"tags": [tag], "operationId": name, "summary": summary, "responses": {"200": ok, **(more or {})}}


def _text(summary: str, name: str, description: str, media_type: str) -> dict[str, Any]:
    schema = {"type": "object"} if media_type == JSON else {"type": "string"}
    ok = {"description": description, "content": {media_type: {"schema": schema}}}
    return {"tags": ["service"], "operationId": name, "summary": summary, "responses": {"200": ok}}


def _unavailable() -> dict[str, Any]:
    return _errors(outcomes.QUEUE_UNAVAILABLE)


def _retry_after() -> dict[str, Any]:
    return {"Retry-After": {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}}


def _errors(*possible: Outcome) -> dict[str, Any]:
    """Responses by status, each naming the codes that come with it."""
    found: dict[str, Any] = {}
    for status in sorted({outcome.status for outcome in possible}):
        group = [outcome for outcome in possible if outcome.status == status]
        lines = [f"`{outcome.code}`: {_MEANINGS.get(outcome) or _BY_ID[outcome]}" for outcome in group]
        response: dict[str, Any] = {"description": "\n".join(lines), "content": _content("ErrorResponse")}
        if any(outcome.retry for outcome in group):
            response["headers"] = _retry_after()
        found[str(status)] = response
    return found
