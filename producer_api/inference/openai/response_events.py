"""What ``/v1/responses`` answers, whole and as events. Pure.

https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from producer_api.inference.encoding import json_encoder
from shared.wire.frames import Frame
from shared.wire.generated import Generated
from shared.wire.messages import Reply
from shared.wire.outcomes import RequestError

from .errors import detail_of, renamed
from .generated import Progress, generated_of
from .sampling import Writing


class OutputText(Struct, frozen=True):
    """The text that was generated."""

    type: str
    text: str
    annotations: list[str] = []


class OutputMessage(Struct, frozen=True):
    """The message that holds it."""

    id: str
    type: str
    status: str
    role: str
    content: Sequence[OutputText]


class CachedTokens(Struct, frozen=True):
    """Tokens of the prompt that were known."""

    cached_tokens: int = 0


class ReasoningTokens(Struct, frozen=True):
    """Tokens that are not part of the text."""

    reasoning_tokens: int = 0


class ResponseUsage(Struct, frozen=True):
    """Numbers of tokens."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: CachedTokens = CachedTokens()
    output_tokens_details: ReasoningTokens = ReasoningTokens()


MEMBERS: Final = {"prompt": "input", "messages": "input", "max_tokens": "max_output_tokens", "schema": "text.format"}
"""Names of the model's parameters in a request."""


class Incomplete(Struct, frozen=True):
    """Why a text ended early."""

    reason: str


class ResponseDocument(Struct, frozen=True, kw_only=True):
    """An answer."""

    id: str
    object: str = "response"
    created_at: int
    status: str
    model: str
    output: list[OutputMessage]
    usage: ResponseUsage | None
    error: dict[str, str] | None = None
    incomplete_details: Incomplete | None = None
    parallel_tool_calls: bool = False
    tool_choice: str = "none"
    tools: list[str] = []


def finished(writing: Writing, generated: Generated, content: Sequence[OutputText]) -> ResponseDocument:
    """Return the whole answer."""
    is_cut = generated.choices[0].finish_reason == "length"
    prompt, made = generated.usage.prompt, generated.usage.generated
    status = "incomplete" if is_cut else "completed"
    return ResponseDocument(
        id=writing.id,
        created_at=writing.created_s,
        status=status,
        model=writing.model,
        output=[_message(writing, status, content)],
        usage=ResponseUsage(prompt, made, prompt + made),
        incomplete_details=Incomplete("max_output_tokens") if is_cut else None,
    )


def _message(writing: Writing, status: str, content: Sequence[OutputText]) -> OutputMessage:
    return OutputMessage(_message_id(writing), "message", status, "assistant", content)


def _message_id(writing: Writing) -> str:
    return f"msg_{writing.id.removeprefix('resp_')}"


class ResponseWriter:
    """Encodes the events of an answer; see :class:`producer_api.streaming.events.EventWriter`."""

    def __init__(self, writing: Writing) -> None:
        self._writing, self._progress, self._number = writing, Progress(writing.sent), 0
        self._is_resumed = writing.sent > 0

    def begin(self) -> bytes:
        """See the interface."""
        if self._is_resumed:
            return b""
        writing = self._writing
        created_s, status = writing.created_s, "in_progress"
        begun = ResponseDocument(
            id=writing.id, created_at=created_s, status=status, model=writing.model, output=[], usage=None
        )
        item, part = _message(writing, "in_progress", ()), OutputText("output_text", "")
        return b"".join(
            (
                self._event("response.created", response=begun),
                self._event("response.in_progress", response=begun),
                self._event("response.output_item.added", output_index=0, item=item),
                self._part_event("response.content_part.added", part=part),
            )
        )

    def part(self, frame: Frame) -> bytes:
        """See the interface."""
        self._progress.part(frame.text, ())
        return self._delta(frame.text, f"{frame.seq}.{self._progress.sent}") if frame.text else b""

    def end(self, reply: Reply) -> bytes:
        """See the interface."""
        generated, choice = generated_of(reply)
        rest, _ = self._progress.rest(choice, all_logprobs=False)
        place = f"{max(0, generated.frames - 1)}.{len(choice.text)}"
        part = OutputText("output_text", choice.text)
        whole = finished(self._writing, generated, [part])
        return b"".join(
            (
                self._delta(rest, place) if rest else b"",
                self._part_event("response.output_text.done", text=choice.text, logprobs=[]),
                self._part_event("response.content_part.done", part=part),
                self._event("response.output_item.done", output_index=0, item=whole.output[0]),
                self._event(f"response.{whole.status}", response=whole),
            )
        )

    def error(self, error: RequestError) -> bytes:
        """See the interface."""
        detail = detail_of(renamed(error, MEMBERS))
        return self._event("error", code=detail.code, message=detail.message, param=detail.param)

    def _delta(self, text: str, place: str) -> bytes:
        event = self._part_event("response.output_text.delta", delta=text, logprobs=[])
        return b"id: %b\n%b" % (place.encode(), event)

    def _part_event(self, kind: str, **members: Any) -> bytes:
        return self._event(kind, item_id=_message_id(self._writing), output_index=0, content_index=0, **members)

    def _event(self, kind: str, **members: Any) -> bytes:
        document = json_encoder.encode({"type": kind, "sequence_number": self._number, **members})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), document)
