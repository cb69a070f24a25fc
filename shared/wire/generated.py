"""What was generated: the member ``generated`` of a reply. Pure; ``docs/protocol.md`` is the contract."""

from __future__ import annotations

from typing import Any

import msgspec

from .frames import TokenLogprob
from .tensors import WireError


class Choice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A text that was generated, whole.

    Attributes:
        finish_reason: ``stop`` (the model or a stop text ended it) or ``length`` (its tokens or its time are used up).
        logprobs: one for each token, if they were asked for.
    """

    index: int
    text: str
    finish_reason: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Usage(msgspec.Struct, frozen=True):
    """Tokens in the prompt, and tokens generated."""

    prompt: int
    generated: int


class Generated(msgspec.Struct, frozen=True, omit_defaults=True):
    """Texts, complete.

    Attributes:
        frames: how many frames they came in; 0 if there were none.
        ended: ``deadline`` if the time was over before the text was; empty otherwise.
    """

    choices: tuple[Choice, ...]
    usage: Usage
    frames: int
    ended: str = ""


def generated_from(value: Any) -> Generated | None:
    """Return the member of a reply, None where there is none.

    Raises:
        WireError: it is none.
    """
    if value is None:
        return None
    try:
        return msgspec.convert(value, Generated)
    except msgspec.ValidationError as error:
        raise WireError(f"The reply's generated is wrong: {str(error)[:120]}.", "generated") from None
