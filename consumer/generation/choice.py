"""The next token of a sequence from logits, with its constraint and its log-probabilities. Pure."""

from __future__ import annotations

from . import sampling
from .detokeniser import Decode
from .engine import Sequence, TokenLogprobs


def needs_logits(sequence: Sequence) -> bool:
    """Say whether more is asked for than the likeliest token."""
    asked = sequence.sampling
    return asked.temperature > 0 or asked.logprobs is not None or sequence.constraint is not None


def choose(
    sequence: Sequence, logits: sampling.Logits, position: int, decode: Decode
) -> tuple[int, tuple[TokenLogprobs, ...]]:
    """Choose, and tell the constraint.

    Args:
        logits: shape (vocabulary,).
        position: tokens before it, the prompt's included.
        decode: the text of tokens.

    Returns:
        The token, and its log-probabilities if they were asked for.

    Raises:
        RequestError: the constraint allows no token.
    """
    constraint, most = sequence.constraint, sequence.sampling.logprobs
    allowed = logits if constraint is None else sampling.allow(logits, constraint.allowed())
    token = sampling.choose(allowed, sequence.sampling, position)
    if constraint is not None:
        constraint.advance(token)
    if most is None:
        return token, ()
    mine, best = sampling.logprobs(logits, token, most)
    top = tuple((one, decode([one]), value) for one, value in best)
    return token, (TokenLogprobs(token, decode([token]), mine, top),)
