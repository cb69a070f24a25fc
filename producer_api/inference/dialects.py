"""The dialects: which codec answers which path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from shared.names import NAME_PATTERN
from shared.wire.outcomes import NOT_FOUND, RequestError

from .codec import Codec
from .native import NATIVE, PATH
from .open_inference import rest as open_inference
from .openai import chat, completions, embed, embeddings, rerank, responses
from .platforms import kserve_v1, sagemaker, torchserve, vertex
from .platforms.chosen import ChosenModel

Dialects = Mapping[str, Codec]

DIALECTS: Dialects = {
    PATH: NATIVE,
    **dict.fromkeys(open_inference.PATHS, open_inference.OPEN_INFERENCE),
    kserve_v1.PATH: kserve_v1.KSERVE_V1,
    **dict.fromkeys(torchserve.PATHS, torchserve.PREDICTIONS),
    embeddings.PATH: embeddings.EMBEDDINGS,
    chat.PATH: chat.CHAT,
    completions.PATH: completions.COMPLETIONS,
    responses.PATH: responses.RESPONSES,
}
"""All POST requests that go through the queue, by templates of their paths. One without ``{model}`` is that of a
dialect whose bodies name the model."""

OF_OPENAI = ("/v1/files", "/v1/batches", "/v1/chat/", "/v1/completions", "/v1/responses")
"""Beginnings of paths whose errors have OpenAI's shape."""

_PARAMETER = re.compile(r"\\\{(\w+)\\\}")


def of_platforms(chosen: ChosenModel, predict_route: str | None) -> Dialects:
    """Return the paths whose model is chosen where a request names none: those of servers for embeddings, that of
    SageMaker, and ``predict_route`` if there is one, for Vertex."""
    found: dict[str, Codec] = {sagemaker.INVOCATIONS: sagemaker.Invocations(chosen), embed.PATH: embed.Embed(chosen)}
    found |= dict.fromkeys(rerank.PATHS, rerank.Rerank(chosen))
    if predict_route is not None:
        found[predict_route] = vertex.Vertex(chosen)
    return found


def find(path: str, dialects: Dialects) -> tuple[str, Codec, Mapping[str, str]] | None:
    """Return the template of a path, its codec and what the path names; None when there is no such dialect.

    Names with other characters than a model's are not found: they are for the router, which knows percent-encoding.
    """
    for route, codec in dialects.items():
        if match := _pattern(route).fullmatch(path):
            return route, codec, match.groupdict()
    return None


def error_codec(path: str, dialects: Dialects) -> Codec:
    """Return the codec that tells errors to whoever asks for a path, whether or not anything is there."""
    found = find(path, dialects)
    if found is not None:
        return found[1]
    if path.startswith(OF_OPENAI):
        return embeddings.EMBEDDINGS
    if path.startswith(f"{torchserve.PREFIX}/"):
        return torchserve.PREDICTIONS
    is_open_inference = path == open_inference.PREFIX or path.startswith(f"{open_inference.PREFIX}/")
    return open_inference.OPEN_INFERENCE if is_open_inference else NATIVE


def missing(path: str) -> RequestError:
    """Make the error for a path at which there is nothing: ``NOT_FOUND``, or ``UNSUPPORTED`` for what others have."""
    path = path[:200]
    if open_inference.is_unsupported(path):
        return open_inference.unsupported(f"The extension at {path}")
    return RequestError(NOT_FOUND, f"There is nothing at {path}; see /docs.")


@cache
def _pattern(route: str) -> re.Pattern[str]:
    return re.compile(_PARAMETER.sub(rf"(?P<\1>{NAME_PATTERN})", re.escape(route)))
