"""What one streamed chat says as it comes: when its tokens came, how many there are, and how it ended. Pure.

The events: https://platform.openai.com/docs/api-reference/chat-streaming. Tokens are counted by the service (`usage`);
an event may hold several of them, or a part of one.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from loadgen.results.ledger import Told

from .embeddings import Tokens
from .event_stream import EventParser, EventTooLong

_DONE: Final = b"[DONE]"
_MOST_CODE: Final = 100

End = Literal["complete", "aborted", "malformed"]


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: Tokens | None = None
    completion_tokens: Tokens | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None


_decode: Final = msgspec.json.Decoder(_Chunk).decode


class Generation:
    """One answer. `told` is what is known of it so far, `error` the code of the error that ended it."""

    __slots__ = ("_done", "_finished", "_malformed", "_parser", "error", "told")

    def __init__(self) -> None:
        self._parser = EventParser()
        self._finished = self._done = self._malformed = False
        self.told = Told()
        self.error: str | None = None

    def feed(self, piece: bytes, at_s: float) -> None:
        """Take the next bytes, which came at `at_s`."""
        if self._malformed:
            return
        try:
            for data in self._parser.feed(piece):
                self._event(data, at_s)
        except (msgspec.MsgspecError, UnicodeDecodeError, EventTooLong):
            self._malformed = True

    def end(self) -> End:
        """Return how the answer ended, now that no more of it will come."""
        if self._malformed or (self._done and not self._finished and self.error is None):
            return "malformed"
        if self.error is not None or not self._finished:
            return "aborted"
        return "complete"

    def _event(self, data: bytes, at_s: float) -> None:
        if data == _DONE:
            self._done = True
            return
        chunk, told = _decode(data), self.told
        if bytes(chunk.error) != b"null":
            self.error = _code(chunk.error)
        if chunk.usage is not None:
            told.prompt_tokens, told.output_tokens = chunk.usage.prompt_tokens, chunk.usage.completion_tokens
        for choice in chunk.choices:
            delta = choice.delta
            if choice.finish_reason is not None:
                self._finished = True
            if delta is not None and (delta.content or delta.reasoning_content or delta.reasoning):
                if math.isnan(told.first_s):
                    told.first_s = at_s
                else:
                    told.worst_gap_s = max(told.worst_gap_s, at_s - told.last_s)
                told.last_s = at_s
        if self._finished and math.isnan(told.first_s):  # an answer without a text, such as one that ends at once
            told.first_s = told.last_s = at_s


def _code(error: msgspec.Raw) -> str:
    try:
        found = msgspec.json.decode(error, type=_Error)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "error"
    return str(found.code or found.type or "error")[:_MOST_CODE]
