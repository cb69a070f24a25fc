"""The OpenAPI 3.1 document: the JSON files of this folder, with the limits, the errors and the schemas filled in.

Schemas come from the classes that decode requests and encode answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from producer_api.auth import OPEN_PATHS
from producer_api.bulk.openai.documents import (
    BatchObject,
    BatchPage,
    BatchRequest,
    FileDeleted,
    FileList,
    FileObject,
)
from producer_api.inference.dialects import OF_OPENAI as dialects_of_openai
from producer_api.inference.open_inference.documents import InferError, InferRequest, InferResponse
from producer_api.inference.open_inference.metadata import (
    ModelConfiguration,
    ModelMetadata,
    ModelReady,
    RepositoryEntry,
    ServerLive,
    ServerMetadata,
    ServerReady,
    StatisticsResponse,
)
from producer_api.inference.open_inference.rest import PREFIX, STATUS
from producer_api.inference.openai import embed, rerank
from producer_api.inference.openai.chat import ChatCompletion, ChatRequest
from producer_api.inference.openai.completions import Completion, CompletionRequest
from producer_api.inference.openai.embed import EmbedRequest
from producer_api.inference.openai.embeddings import EmbeddingsRequest, EmbeddingsResponse
from producer_api.inference.openai.errors import STATUS as OPENAI_STATUS
from producer_api.inference.openai.errors import OpenAIError
from producer_api.inference.openai.rerank import RankedText, RerankRequest, RerankResponse
from producer_api.inference.openai.response_events import ResponseDocument
from producer_api.inference.openai.responses import ResponseRequest
from producer_api.inference.openai.servers import ServerError
from producer_api.inference.platforms import torchserve
from producer_api.inference.platforms.kserve_v1 import V1Request
from producer_api.inference.platforms.torchserve import TorchServeError
from producer_api.inference.request_ids import MOST_KEY_BYTES
from producer_api.later.preferences import DURATION_PATTERN
from producer_api.parsing.bulk_schemas import BatchInfo, BatchList, ResultLine
from producer_api.parsing.schemas import (
    MAX_TOP_K,
    ErrorResponse,
    NewUpload,
    PredictRequest,
    PredictResponse,
    RequestEvent,
    RequestState,
    UploadState,
)
from producer_api.parsing.service_schemas import Health, ModelInfo, ModelList, Readiness, VersionInfo
from producer_api.request_log.story import Explained
from producer_api.store.reference import ReferenceDocument
from shared.names import NAME_PATTERN
from shared.settings import Settings
from shared.version import __version__
from shared.wire.outcomes import BY_CODE

_DOORS: Final = (
    "openapi",
    "later",
    "uploads",
    "bulk",
    "open_inference",
    "platforms",
    "torchserve",
    "openai",
    "service",
)
"""The files beside this one, in the order of the document; each has the paths of one door, the first what all share."""

_ERROR_SHAPES: Final[Mapping[str, tuple[str, Mapping[int, int]]]] = {
    "$errors": ("ErrorResponse", {}),
    "$infer_errors": ("InferError", STATUS),
    "$torchserve_errors": ("TorchServeError", {}),
    "$openai_errors": ("OpenAIError", OPENAI_STATUS),
    "$server_errors": ("ServerError", OPENAI_STATUS),
}
"""Members of the files that stand for errors, with their schema and what their dialect has for some statuses."""

_OF_SERVERS = (embed.PATH, *rerank.PATHS)
_OF_OPENAI = (*dialects_of_openai, "/v1/embeddings")

_REF = "#/components/schemas/{name}"
_SHAPES = (
    *(PredictRequest, PredictResponse, RequestState, RequestEvent, ErrorResponse, ModelList, ModelInfo),
    *(Health, Readiness, VersionInfo, NewUpload, UploadState, ReferenceDocument),
    *(InferRequest, InferResponse, InferError, ServerLive, ServerReady, ServerMetadata),
    *(V1Request, TorchServeError),
    *(EmbeddingsRequest, EmbeddingsResponse, ChatRequest, ChatCompletion, CompletionRequest, Completion, OpenAIError),
    *(ResponseRequest, ResponseDocument),
    *(EmbedRequest, RerankRequest, RerankResponse, RankedText, ServerError),
    *(FileObject, FileList, FileDeleted, BatchRequest, BatchObject, BatchPage),
    *(ModelReady, ModelMetadata, ModelConfiguration, StatisticsResponse, RepositoryEntry),
    *(BatchInfo, BatchList, ResultLine),
    Explained,
)
_IN_PATH = {"model": {"type": "string", "pattern": "^${name_pattern}$"}, "version": {"type": "string"}}
_PLACE = re.compile(r"\$\{(\w+)\}")

Meanings = Mapping[str, Mapping[str, str]]
"""What each code means, in groups."""


def document(settings: Settings) -> dict[str, Any]:
    """Build the document.

    Args:
        settings: whose limits the document tells.
    """
    template, meanings = _template()
    values = {
        "bulk_items": settings.bulk_items,
        "bulk_mb": settings.bulk_mb,
        "duration_pattern": DURATION_PATTERN,
        "default_timeout_ms": settings.default_timeout_ms,
        "max_body_bytes": settings.max_body_bytes,
        "large_body_mb": settings.large_body_mb,
        "upload_s": settings.upload_s,
        "max_timeout_ms": settings.max_timeout_ms,
        "max_top_k": MAX_TOP_K,
        "most_key_bytes": MOST_KEY_BYTES,
        "name_pattern": NAME_PATTERN,
        "version": __version__,
    }
    _, schemas = msgspec.json.schema_components(_SHAPES, ref_template=_REF)
    found = _filled(template, values, meanings)
    components: dict[str, Any] = {"schemas": schemas}
    if settings.keys_file is not None:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    # Before a path is looked at, the head is, whatever dialect its client speaks.
    of_heads = _errors(("misdirected", "headers_too_large"), meanings, "ErrorResponse", {})
    for path, item in found["paths"].items():
        for operation in (one for name, one in item.items() if name != "parameters"):
            operation["responses"] = _by_key(path, meanings) | operation["responses"] | of_heads
            if path in OPEN_PATHS and settings.keys_file is not None:
                operation["security"] = []
    return {**found, "components": components}


def _by_key(path: str, meanings: Meanings) -> dict[str, Any]:
    """Return what is answered at a path where keys are required, and none that is valid was sent."""
    if path in OPEN_PATHS:
        return {}
    if path.startswith(torchserve.PREFIX):
        return _errors(("unauthorized",), meanings, "TorchServeError", {})
    infer = path.startswith(PREFIX) or path.endswith(":predict")
    shape = "ServerError" if path in _OF_SERVERS else "InferError" if infer else "ErrorResponse"
    return _errors(("unauthorized",), meanings, "OpenAIError" if path.startswith(_OF_OPENAI) else shape, {})


def _template() -> tuple[dict[str, Any], Meanings]:
    """Put the doors together."""
    template: dict[str, Any] = {}
    meanings: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for door in _DOORS:
        part = msgspec.json.decode(Path(__file__).with_name(f"{door}.json").read_bytes())
        paths |= part.pop("paths") | _of_models(part.pop("$of_models", {}))
        meanings |= part.pop("$meanings", {})
        template["tags"] = template.get("tags", []) + part.pop("tags", [])
        template |= part
    return {**template, "paths": paths}, meanings


def _of_models(operations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the paths below a model of the Open Inference Protocol, and the same below each of its versions."""
    found = {}
    for suffix, item in operations.items():
        for place, names in (("", ("model",)), ("/versions/{version}", ("model", "version"))):
            parameters = [{"name": name, "in": "path", "required": True, "schema": _IN_PATH[name]} for name in names]
            named = {
                method: {**one, "operationId": one["operationId"] + "OfVersion" * bool(place)}
                for method, one in item.items()
            }
            found[f"/v2/models/{{model}}{place}{suffix}"] = {"parameters": parameters, **named}
    return found


def _filled(node: Any, values: Mapping[str, Any], meanings: Meanings) -> Any:
    """Put ``values`` in the places of ``${name}``, and responses in that of ``$errors``."""
    if isinstance(node, list):
        return [_filled(part, values, meanings) for part in node]
    if isinstance(node, str):
        whole = _PLACE.fullmatch(node)
        return values[whole[1]] if whole else _PLACE.sub(lambda place: str(values[place[1]]), node)
    if not isinstance(node, dict):
        return node
    found: dict[str, Any] = {}
    for place, (shape, statuses) in _ERROR_SHAPES.items():
        found |= _errors(node.get(place, ()), meanings, shape, statuses)
    return found | {name: _filled(part, values, meanings) for name, part in node.items() if name not in _ERROR_SHAPES}


def _errors(codes: str | Iterable[str], meanings: Meanings, shape: str, statuses: Mapping[int, int]) -> dict[str, Any]:
    """Responses by status, each naming the codes that come with it.

    Args:
        codes: those that are possible, or the group of ``meanings`` that holds them.
        shape: name of their schema.
        statuses: what the dialect has instead of the outcome's own.
    """
    known = {code: meaning for group in meanings.values() for code, meaning in group.items()}
    possible = [BY_CODE[code] for code in (meanings[codes] if isinstance(codes, str) else codes)]
    found: dict[str, Any] = {}
    status_of = {outcome: statuses.get(outcome.status, outcome.status) for outcome in possible}
    for status in sorted(set(status_of.values())):
        group = [outcome for outcome in possible if status_of[outcome] == status]
        schema = {"$ref": _REF.format(name=shape)}
        response: dict[str, Any] = {
            "description": "\n".join(f"`{outcome.code}`: {known[outcome.code]}" for outcome in group),
            "content": {"application/json": {"schema": schema}},
        }
        if any(outcome.retry for outcome in group):
            seconds = {"description": "Seconds to wait before the next try.", "schema": {"type": "integer"}}
            response["headers"] = {"Retry-After": seconds}
        found[str(status)] = response
    return found
