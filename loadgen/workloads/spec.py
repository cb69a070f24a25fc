"""What a workload is made of: `chat` (streamed answers) or `embed` (vectors of texts), with its lengths. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from loadgen.errors import EXIT_USAGE, LoadgenError

MOST_TEXTS: Final = 2048

_Words = Annotated[float, msgspec.Meta(ge=1, le=100_000)]
_Tokens = Annotated[float, msgspec.Meta(ge=1, le=1_000_000)]
_Sigma = Annotated[float, msgspec.Meta(ge=0, le=3)]
_Milliseconds = Annotated[float, msgspec.Meta(gt=0, le=86_400_000)]

_CHAT: Final[dict[str, Any]] = {
    "output_tokens": 32.0,
    "output_sigma": 0.6,
    "most_output_tokens": 128,
    "ttft_objective_ms": 500.0,
    "itl_objective_ms": 100.0,
}
_EMBED: Final[dict[str, Any]] = {"most_texts": 1}


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests whose texts are made from a seed. A member that does not belong to the kind is null.

    Lengths are log-normal: `input_words` is the median number of words of a text and `input_sigma` the deviation of its
    logarithm, cut at `most_input_words`; `output_tokens`, `output_sigma` and `most_output_tokens` say the same of the
    `max_tokens` of a chat. Words and tokens differ, and only the service counts tokens. A request of `embed` has 1 to
    `most_texts` texts. `distinct` different requests are made; a longer run sends them again in another order.

    A chat is good when its first token came within `ttft_objective_ms` of the planned send time and its mean time
    between tokens is at most `itl_objective_ms`.

    `api`: `openai` asks /v1/chat/completions or /v1/embeddings, `native` our own way of asking, as a stream has it.
    `extra_body`: further members of each request's JSON, such as what another server needs.
    """

    kind: Literal["chat", "embed"]
    api: Literal["openai", "native"] = "openai"
    seed: int = 1
    distinct: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 256
    input_words: _Words = 64.0
    input_sigma: _Sigma = 0.6
    most_input_words: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 256
    most_texts: Annotated[int, msgspec.Meta(ge=1, le=MOST_TEXTS)] | None = None
    output_tokens: _Tokens | None = None
    output_sigma: _Sigma | None = None
    most_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    ttft_objective_ms: _Milliseconds | None = None
    itl_objective_ms: _Milliseconds | None = None
    extra_body: dict[str, Any] = {}

    def __post_init__(self) -> None:
        own, others = (_CHAT, _EMBED) if self.kind == "chat" else (_EMBED, _CHAT)
        strange = next((name for name in others if getattr(self, name) is not None), None)
        if strange is not None:
            raise ValueError(f"{strange} does not belong to a workload of the kind {self.kind}")
        for name, value in own.items():
            if getattr(self, name) is None:
                msgspec.structs.force_setattr(self, name, value)
        if self.kind == "chat" and self.api != "openai":
            raise ValueError("chat is asked by the api openai only")
        if self.api == "native" and self.extra_body:
            raise ValueError("extra_body needs the api openai")
        if self.input_words > self.most_input_words:
            raise ValueError("input_words must not be above most_input_words")
        if self.output_tokens and self.most_output_tokens and self.output_tokens > self.most_output_tokens:
            raise ValueError("output_tokens must not be above most_output_tokens")


def make_workload(members: dict[str, Any]) -> Workload:
    """Return the workload with these members, the others at their defaults.

    Raises:
        LoadgenError: usage, with a sentence that names the member that is wrong.
    """
    try:
        return msgspec.convert(members, Workload)
    except msgspec.ValidationError as error:
        raise LoadgenError(f"The workload cannot be made: {error}.", EXIT_USAGE) from error
