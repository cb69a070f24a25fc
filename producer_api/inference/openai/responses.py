"""``POST /v1/responses``: text in, text out.

https://platform.openai.com/docs/api-reference/responses/create. Nothing is stored for later requests: a conversation is
in the request, as for chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from producer_api.inference.codec import Decoded, Head, Limits, Response
from producer_api.inference.encoding import json_encoder
from producer_api.inference.negotiation import JSON
from producer_api.parsing.steps import Steps
from shared.state.cards import Card
from shared.wire.messages import Reply
from shared.wire.outcomes import RequestError, invalid

from .documents import decoded
from .errors import encoded, renamed
from .generated import generated_of
from .response_events import MEMBERS, OutputText, ResponseWriter, finished
from .sampling import ANY_OBJECT, MostTokens, Sampled, Writing, WritingCodec, check_size, decoded_of, schema_of

PATH: Final = "/v1/responses"
MOST_MESSAGES: Final = 4096


class InputText(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message; only texts are taken."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None


class InputMessage(Struct, frozen=True, forbid_unknown_fields=True):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputText]
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None


class TextFormat(Struct, frozen=True, forbid_unknown_fields=True):
    """What the text is: any, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})] | UnsetType = UNSET
    description: str | None = None
    strict: bool | None = None


class TextOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the text."""

    format: TextFormat | None = None


class ResponseRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A request. ``metadata``, ``user``, ``store`` and ``service_tier`` are ignored: nothing is stored."""

    model: str
    input: str | list[InputMessage]
    instructions: str | None = None
    max_output_tokens: MostTokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    stream: bool | None = None
    text: TextOptions | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    include: list[str] | None = None
    previous_response_id: str | None = None
    background: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    store: bool | None = None
    service_tier: str | None = None


_decoder: Final = msgspec.json.Decoder(ResponseRequest)


class Responses(WritingCodec):
    """A text or a conversation in, a text out."""

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        check_size(body)
        asked = decoded(body, _decoder)
        for name in ("tools", "previous_response_id", "background", "include"):
            if getattr(asked, name):
                raise invalid(f"{name} is not supported.", name)
        if asked.tool_choice not in (None, "none", "auto"):
            raise invalid("Tools are not supported.", "tool_choice")
        sampled = Sampled(
            model=asked.model,
            max_tokens=asked.max_output_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            stream=asked.stream,
        )
        writing = Writing(f"resp_{generated_id}", card.name, int(self._now_s()), None, True)
        source = {"messages": _messages(asked)}
        schema = _schema(asked.text)
        return decoded_of(sampled, source, writing, ResponseWriter, head, card, limits, generated_id, schema=schema)

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        generated, choice = generated_of(reply)
        answer = finished(asked, generated, [OutputText("output_text", choice.text)])
        return Response(200, JSON, json_encoder.encode(answer))

    def error(self, error: RequestError) -> Response:
        """See the interface."""
        return encoded(renamed(error, MEMBERS))


RESPONSES: Final = Responses()


def _messages(asked: ResponseRequest) -> list[Mapping[str, str]]:
    found: list[Mapping[str, str]] = []
    if asked.instructions:
        found.append({"role": "system", "content": asked.instructions})
    if isinstance(asked.input, str):
        if not asked.input:
            raise invalid("The input must not be empty.", "input")
        return [*found, {"role": "user", "content": asked.input}]
    if not 1 <= len(asked.input) <= MOST_MESSAGES:
        raise invalid(f"The input is a text, or 1 to {MOST_MESSAGES} messages.", "input")
    for message in asked.input:
        content = message.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        found.append({"role": "system" if message.role == "developer" else message.role, "content": text})
    return found


def _schema(options: TextOptions | None) -> Mapping[str, Any] | None:
    wanted = None if options is None else options.format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return ANY_OBJECT
    if wanted.schema is UNSET:
        raise invalid("A format of the type json_schema has a schema.", "text.format.schema")
    return schema_of(wanted.schema, "text.format.schema")
