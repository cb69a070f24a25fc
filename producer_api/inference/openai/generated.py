"""The text of a reply, and what is told of its tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType

from producer_api.inference.encoding import json_encoder
from shared.wire.frames import TokenLogprob
from shared.wire.generated import Choice, Generated
from shared.wire.messages import Reply
from shared.wire.outcomes import MODEL_ERROR, RequestError

DONE = b"data: [DONE]\n\n"


class TokenUsage(Struct, frozen=True):
    """Numbers of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Remark(Struct, frozen=True):
    """What is ours: ``ended`` is ``deadline`` if the time was over before the text was."""

    ended: str


class TopLogprob(Struct, frozen=True):
    """A token that was likely, and the logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int] | None


class ContentLogprob(Struct, frozen=True):
    """How likely a token was, and the likeliest ones in its place."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


def generated_of(reply: Reply) -> tuple[Generated, Choice]:
    """Return what was generated.

    Raises:
        RequestError: ``MODEL_ERROR``: the reply has no text.
    """
    generated = reply.generated
    if generated is None or not generated.choices:
        raise RequestError(MODEL_ERROR, "The model gave no text.", request_id=reply.id)
    return generated, generated.choices[0]


def usage_of(generated: Generated) -> TokenUsage:
    """Return the numbers of tokens."""
    prompt, made = generated.usage.prompt, generated.usage.generated
    return TokenUsage(prompt, made, prompt + made)


def remark_of(generated: Generated) -> Remark | UnsetType:
    """Return what is ours of an answer, where there is something."""
    return Remark(generated.ended) if generated.ended else UNSET


def content_of(logprobs: Sequence[TokenLogprob], most: int) -> list[ContentLogprob]:
    """Return what chat tells of tokens.

    Args:
        most: likeliest ones beside each.
    """
    return [
        ContentLogprob(
            one.text,
            one.logprob,
            list(one.text.encode()),
            [TopLogprob(text, logprob, list(text.encode())) for _, text, logprob in one.top[:most]],
        )
        for one in logprobs
    ]


class Progress:
    """How much of a text has been sent: parts come with it, and the whole text at the end.

    Args:
        sent: characters that the client had before.
    """

    def __init__(self, sent: int) -> None:
        self.sent, self.logprobs = sent, 0

    def part(self, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        """Take note of a part."""
        self.sent += len(text)
        self.logprobs += len(logprobs)

    def rest(self, choice: Choice, *, all_logprobs: bool) -> tuple[str, Sequence[TokenLogprob]]:
        """Return what the client lacks of the whole.

        Args:
            all_logprobs: the client has been sent those of all its text; else those before are not told again.
        """
        return choice.text[self.sent :], choice.logprobs[self.logprobs :] if all_logprobs else ()


def event(document: object, event_id: str = "") -> bytes:
    """Encode an event."""
    data = json_encoder.encode(document)
    return b"id: %b\ndata: %b\n\n" % (event_id.encode(), data) if event_id else b"data: %b\n\n" % data
