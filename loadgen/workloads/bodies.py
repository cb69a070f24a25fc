"""The bodies of a workload's requests: made once, before the load, and the same for everybody with the same seed. Pure.

OpenAI's forms: https://platform.openai.com/docs/api-reference/chat/create and /embeddings/create. Our own: a list of
texts in msgpack, as docs/text-models.md has it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from .lengths import lognormal, text_of
from .spec import Workload

JSON: Final = "application/json"
TEXTS: Final = "application/vnd.headrace.text"
_PATHS: Final = {"chat": "/chat/completions", "embed": "/embeddings"}


@dataclass(frozen=True, slots=True)
class Body:
    """One request, ready to send. `texts` is how many texts it asks about."""

    content_type: str
    data: bytes
    texts: int


def path_of(workload: Workload) -> str | None:
    """Return the path below `/v1` that takes these requests; None for the model's own."""
    return _PATHS[workload.kind] if workload.api == "openai" else None


def make_bodies(workload: Workload, model: str) -> tuple[Body, ...]:
    """Return the different requests of a workload.

    Lengths and words draw from separate random streams, so another length does not change what the words are.
    """
    rng = {name: random.Random(f"{workload.kind}:{name}:{workload.seed}") for name in ("lengths", "words", "outputs")}

    def text() -> str:
        count = lognormal(rng["lengths"], workload.input_words, workload.input_sigma, workload.most_input_words)
        return text_of(rng["words"], count)

    made = []
    for _ in range(workload.distinct):
        if workload.kind == "chat":
            made.append(_json(_chat(workload, model, text(), rng["outputs"]), workload.extra_body, 1))
            continue
        texts = [text() for _ in range(rng["outputs"].randint(1, workload.most_texts or 1))]
        if workload.api == "native":
            made.append(Body(TEXTS, msgspec.msgpack.encode(texts), len(texts)))
        else:
            # Numbers as text would cost the generator, and the service, more than everything else.
            document = {"model": model, "input": texts, "encoding_format": "base64"}
            made.append(_json(document, workload.extra_body, len(texts)))
    return tuple(made)


def _chat(workload: Workload, model: str, text: str, rng: random.Random) -> dict[str, Any]:
    assert workload.output_tokens is not None
    assert workload.output_sigma is not None
    assert workload.most_output_tokens is not None
    most = lognormal(rng, workload.output_tokens, workload.output_sigma, workload.most_output_tokens)
    return {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": most,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def whole_answer_body(body: bytes) -> bytes:
    """Return what asks for the same in one piece and in plain numbers, so that answers can be compared."""
    document = msgspec.json.decode(body)
    if "messages" in document:
        document = {name: value for name, value in document.items() if name not in ("stream", "stream_options")}
    else:
        document["encoding_format"] = "float"
    return msgspec.json.encode(document)


def _json(document: Mapping[str, Any], extra: Mapping[str, Any], texts: int) -> Body:
    return Body(JSON, msgspec.json.encode({**document, **extra}), texts)
