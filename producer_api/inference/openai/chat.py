"""``POST /v1/chat/completions``: the next message of a conversation.

https://platform.openai.com/docs/api-reference/chat/create, and /chat-streaming for the events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from producer_api.inference.codec import Decoded, Head, Limits, Response
from producer_api.inference.encoding import json_encoder
from producer_api.inference.negotiation import JSON
from producer_api.parsing.steps import Steps
from shared.state.cards import Card
from shared.wire.frames import Frame, TokenLogprob
from shared.wire.messages import Reply
from shared.wire.outcomes import RequestError, invalid

from . import errors
from .documents import decoded
from .generated import (
    DONE,
    ContentLogprob,
    Progress,
    Remark,
    TokenUsage,
    content_of,
    event,
    generated_of,
    remark_of,
    usage_of,
)
from .sampling import (
    ANY_OBJECT,
    MostTokens,
    Sampled,
    Writing,
    WritingCodec,
    check_size,
    check_supported,
    decoded_of,
    schema_of,
)

PATH: Final = "/v1/chat/completions"
MOST_MESSAGES: Final = 4096

_CHUNK: Final = "chat.completion.chunk"
_MEMBERS: Final = {"prompt": "messages", "schema": "response_format"}


class TextPart(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message; only texts are taken."""

    type: Literal["text"]
    text: str


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """A message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    refusal: str | None = None


class JsonSchema(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON Schema that the answer is to fulfil; it is always held to, whatever ``strict`` says."""

    name: str
    schema: Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, forbid_unknown_fields=True):
    """What the answer is: any text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(Sampled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request. Ignored are ``user``, ``metadata``, ``store``, ``service_tier`` and what helps others' caches."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: MostTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None


class ChatMessage(Struct, frozen=True):
    """The message that was generated."""

    role: str
    content: str
    refusal: str | None = None


class ChatLogprobs(Struct, frozen=True):
    """How likely the tokens of a message were."""

    content: list[ContentLogprob]
    refusal: list[ContentLogprob] | None = None


class ChatChoice(Struct, frozen=True):
    """The one answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(Struct, frozen=True):
    """An answer."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    x_headrace: Remark | UnsetType = UNSET


class ChatDelta(Struct, frozen=True, omit_defaults=True):
    """What an event adds to the message."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChunkChoice(Struct, frozen=True):
    """What an event adds to the one answer."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None


class ChatChunk(Struct, frozen=True):
    """An event of a stream."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: TokenUsage | UnsetType | None = UNSET
    x_headrace: Remark | UnsetType = UNSET


_decoder: Final = msgspec.json.Decoder(ChatRequest)


class Chat(WritingCodec):
    """A conversation in, its next message out."""

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        check_size(body)
        asked = decoded(body, _decoder)
        _check(asked)
        if asked.max_completion_tokens is not None:
            asked = msgspec.structs.replace(asked, max_tokens=asked.max_completion_tokens)
        options = asked.stream_options
        writing = Writing(
            f"chatcmpl-{generated_id}",
            card.name,
            int(self._now_s()),
            (asked.top_logprobs or 0) if asked.logprobs else None,
            options is not None and options.include_usage,
        )
        source = {"messages": [_plain(message) for message in asked.messages]}
        return decoded_of(
            asked, source, writing, ChatWriter, head, card, limits, generated_id, schema=_schema(asked.response_format)
        )

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        writing: Writing = asked
        generated, choice = generated_of(reply)
        logprobs = None
        if writing.top_logprobs is not None:
            logprobs = ChatLogprobs(content_of(choice.logprobs, writing.top_logprobs))
        one = ChatChoice(0, ChatMessage("assistant", choice.text), logprobs, choice.finish_reason)
        made = (writing.id, "chat.completion", writing.created_s, writing.model, [one], usage_of(generated))
        return Response(200, JSON, json_encoder.encode(ChatCompletion(*made, remark_of(generated))))

    def error(self, error: RequestError) -> Response:
        """See the interface."""
        return errors.encoded(errors.renamed(error, _MEMBERS))


CHAT: Final = Chat()


class ChatWriter:
    """Encodes the events of an answer; see :class:`producer_api.streaming.events.EventWriter`."""

    def __init__(self, writing: Writing) -> None:
        self._writing, self._progress = writing, Progress(writing.sent)
        self._is_resumed = writing.sent > 0
        self._usage: UnsetType | None = None if writing.includes_usage else UNSET
        # All events of a text are the same but for it: encoding them whole would be half of what an event takes.
        sample = self._event([ChatChunkChoice(0, ChatDelta(content=""))])
        self._head, self._tail = sample.split(b'"content":""', 1)

    def begin(self) -> bytes:
        """See the interface: the role comes first."""
        return b"" if self._is_resumed else self._chunk(ChatDelta(role="assistant", content=""))

    def part(self, frame: Frame) -> bytes:
        """See the interface."""
        self._progress.part(frame.text, frame.logprobs)
        if self._writing.top_logprobs is None:
            if not frame.text:
                return b""
            text, sent = json_encoder.encode(frame.text), self._progress.sent
            return b'id: %d.%d\n%b"content":%b%b' % (frame.seq, sent, self._head, text, self._tail)
        if not frame.text and not frame.logprobs:
            return b""
        return self._text(frame.text, frame.logprobs, f"{frame.seq}.{self._progress.sent}")

    def end(self, reply: Reply) -> bytes:
        """See the interface."""
        generated, choice = generated_of(reply)
        text, logprobs = self._progress.rest(choice, all_logprobs=not self._is_resumed)
        place = f"{max(0, generated.frames - 1)}.{len(choice.text)}"
        events = [self._text(text, logprobs, place)] if text or logprobs else []
        last = ChatChunkChoice(0, ChatDelta(), None, choice.finish_reason)
        events.append(self._event([last], remark=remark_of(generated), place=place))
        if self._writing.includes_usage:
            events.append(self._event([], usage=usage_of(generated)))
        return b"".join((*events, DONE))

    def error(self, error: RequestError) -> bytes:
        """See the interface."""
        return event(errors.OpenAIError(errors.detail_of(errors.renamed(error, _MEMBERS))))

    def _text(self, text: str, logprobs: Sequence[TokenLogprob], place: str) -> bytes:
        most, told = self._writing.top_logprobs, None
        if most is not None:
            told = ChatLogprobs(content_of(logprobs, most))
        return self._event([ChatChunkChoice(0, ChatDelta(content=text), told)], place=place)

    def _chunk(self, delta: ChatDelta) -> bytes:
        return self._event([ChatChunkChoice(0, delta)])

    def _event(
        self,
        choices: list[ChatChunkChoice],
        *,
        usage: TokenUsage | None = None,
        remark: Remark | UnsetType = UNSET,
        place: str = "",
    ) -> bytes:
        writing = self._writing
        made = (writing.id, _CHUNK, writing.created_s, writing.model, choices)
        return event(ChatChunk(*made, self._usage if usage is None else usage, remark), place)


def _check(asked: ChatRequest) -> None:
    check_supported(asked)
    if asked.tools or asked.tool_choice not in (None, "none", "auto"):
        raise invalid("Tools are not supported.", "tools" if asked.tools else "tool_choice")
    if asked.top_logprobs is not None and not asked.logprobs:
        raise invalid("top_logprobs needs logprobs to be true.", "top_logprobs")
    if asked.max_tokens is not None and asked.max_completion_tokens not in (None, asked.max_tokens):
        raise invalid("max_tokens and max_completion_tokens differ.", "max_completion_tokens")


def _plain(message: Message) -> Mapping[str, str]:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.text for part in content or ())
    found = {"role": "system" if message.role == "developer" else message.role, "content": text}
    if message.name is not None:
        found["name"] = message.name
    return found


def _schema(wanted: ResponseFormat | None) -> Mapping[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return ANY_OBJECT
    if wanted.json_schema is None:
        raise invalid("A response_format of the type json_schema has a json_schema.", "response_format.json_schema")
    return schema_of(wanted.json_schema.schema, "response_format.json_schema.schema")
