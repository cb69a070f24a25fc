"""``POST /v1/completions``: how a text goes on.

https://platform.openai.com/docs/api-reference/completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from producer_api.inference.codec import Decoded, Head, Limits, Response
from producer_api.inference.encoding import json_encoder
from producer_api.inference.negotiation import JSON
from producer_api.parsing.steps import Steps
from shared.state.cards import Card
from shared.wire.frames import Frame, Logprob, TokenLogprob
from shared.wire.messages import Reply
from shared.wire.outcomes import RequestError, invalid

from . import errors
from .documents import decoded
from .generated import DONE, Progress, Remark, TokenUsage, event, generated_of, remark_of, usage_of
from .sampling import Sampled, Writing, WritingCodec, check_size, check_supported, decoded_of

PATH: Final = "/v1/completions"
DEFAULT_MAX_TOKENS: Final = 16
"""OpenAI's, of this path only."""

_MEMBERS: Final = {"tokens": "prompt"}
_TOKEN = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class CompletionRequest(Sampled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request; ``user`` is ignored."""

    prompt: str | list[str | _TOKEN | list[_TOKEN]]
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None


class CompletionLogprobs(Struct, frozen=True):
    """How likely the tokens of a text were, each with the likeliest ones in its place."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Struct, frozen=True):
    """The one answer, or what an event adds to it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class Completion(Struct, frozen=True):
    """An answer, or an event of a stream."""

    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage | UnsetType | None = UNSET
    x_headrace: Remark | UnsetType = UNSET


_decoder: Final = msgspec.json.Decoder(CompletionRequest)


class Completions(WritingCodec):
    """A prompt in, what follows it out."""

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """See the interface."""
        check_size(body)
        asked = decoded(body, _decoder)
        _check(asked)
        if asked.max_tokens is None:
            asked = msgspec.structs.replace(asked, max_tokens=DEFAULT_MAX_TOKENS)
        options = asked.stream_options
        includes_usage = options is not None and options.include_usage
        writing = Writing(f"cmpl-{generated_id}", card.name, int(self._now_s()), asked.logprobs, includes_usage)
        return decoded_of(asked, _source(asked), writing, CompletionWriter, head, card, limits, generated_id)

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """See the interface."""
        writing: Writing = asked
        generated, choice = generated_of(reply)
        logprobs = _logprobs(choice.logprobs, 0, writing.top_logprobs)
        one = CompletionChoice(0, choice.text, logprobs, choice.finish_reason)
        made = (writing.id, "text_completion", writing.created_s, writing.model, [one], usage_of(generated))
        return Response(200, JSON, json_encoder.encode(Completion(*made, remark_of(generated))))

    def error(self, error: RequestError) -> Response:
        """See the interface."""
        return errors.encoded(errors.renamed(error, _MEMBERS))


COMPLETIONS: Final = Completions()


class CompletionWriter:
    """Encodes the events of an answer; see :class:`producer_api.streaming.events.EventWriter`."""

    def __init__(self, writing: Writing) -> None:
        self._writing, self._progress = writing, Progress(writing.sent)
        self._is_resumed = writing.sent > 0
        self._usage: UnsetType | None = None if writing.includes_usage else UNSET

    def begin(self) -> bytes:
        """See the interface."""
        return b""

    def part(self, frame: Frame) -> bytes:
        """See the interface."""
        before = self._progress.sent
        self._progress.part(frame.text, frame.logprobs)
        if not frame.text and not (frame.logprobs and self._writing.top_logprobs is not None):
            return b""
        return self._text(frame.text, frame.logprobs, before, f"{frame.seq}.{self._progress.sent}")

    def end(self, reply: Reply) -> bytes:
        """See the interface."""
        generated, choice = generated_of(reply)
        text, logprobs = self._progress.rest(choice, all_logprobs=not self._is_resumed)
        place = f"{max(0, generated.frames - 1)}.{len(choice.text)}"
        events = [self._text(text, logprobs, self._progress.sent, place)] if text or logprobs else []
        last = CompletionChoice(0, "", None, choice.finish_reason)
        events.append(self._event([last], remark=remark_of(generated), place=place))
        if self._writing.includes_usage:
            events.append(self._event([], usage=usage_of(generated)))
        return b"".join((*events, DONE))

    def error(self, error: RequestError) -> bytes:
        """See the interface."""
        return event(errors.OpenAIError(errors.detail_of(errors.renamed(error, _MEMBERS))))

    def _text(self, text: str, logprobs: Sequence[TokenLogprob], offset: int, place: str) -> bytes:
        told = _logprobs(logprobs, offset, self._writing.top_logprobs)
        return self._event([CompletionChoice(0, text, told, None)], place=place)

    def _event(
        self,
        choices: list[CompletionChoice],
        *,
        usage: TokenUsage | None = None,
        remark: Remark | UnsetType = UNSET,
        place: str = "",
    ) -> bytes:
        writing = self._writing
        made = (writing.id, "text_completion", writing.created_s, writing.model, choices)
        return event(Completion(*made, self._usage if usage is None else usage, remark), place)


def _check(asked: CompletionRequest) -> None:
    check_supported(asked)
    if asked.best_of not in (None, 1):
        raise invalid("best_of is 1.", "best_of")
    if asked.echo:
        raise invalid("echo is not supported.", "echo")
    if asked.suffix:
        raise invalid("suffix is not supported.", "suffix")


def _source(asked: CompletionRequest) -> dict[str, Any]:
    """Return the one prompt, as text or as tokens."""
    prompt: Any = asked.prompt
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, str):
        if not prompt:
            raise invalid("The prompt must not be empty.", "prompt")
        return {"prompt": prompt}
    if not prompt:
        raise invalid("The prompt must not be empty.", "prompt")
    if not all(isinstance(token, int) for token in prompt):
        raise invalid("There is one prompt, a text or a list of tokens: send several requests for several.", "prompt")
    return {"tokens": tuple(prompt)}


def _by_text(top: Sequence[Logprob]) -> dict[str, float]:
    """Return the likeliest tokens by what they say; of several that say the same, the likeliest."""
    found: dict[str, float] = {}
    for _, text, logprob in top:
        found.setdefault(text, logprob)
    return found


def _logprobs(logprobs: Sequence[TokenLogprob], offset: int, most: int | None) -> CompletionLogprobs | None:
    if most is None:
        return None
    offsets = []
    for one in logprobs:
        offsets.append(offset)
        offset += len(one.text)
    return CompletionLogprobs(
        [one.text for one in logprobs],
        [one.logprob for one in logprobs],
        [_by_text(one.top[:most]) for one in logprobs],
        offsets,
    )
