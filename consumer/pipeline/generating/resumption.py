"""What the record of a generation says to the consumer that goes on with it. Pure.

A consumer that dies takes all of its generations with it, and at most one of them is to blame. One that had made some
tokens in its last attempt most likely is not, and goes on in company at once; one that had made hardly any is
unproven, and begins as the only such one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.wire.frames import DEADLINE, FIRST, HANDED_OVER, Frame, TokenLogprob, tokens_of

PROVEN_TOKENS = 4
"""Tokens after which an attempt counts as proven: its prompt was read, and it has gone on from there."""

MOST_ATTEMPTS = 8
"""Attempts that ended with their consumer, in whatever company, before one is not tried again."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a generation was when its last consumer left it.

    Attributes:
        seq: number of the next frame.
        attempt: the last one, from 1; 0 for none.
        tokens: all so far, in order.
        text: all that was given out.
        logprobs: one for each token, if they were asked for.
        finish: why it is complete; empty if it is not.
        missed_deadline: it is complete because its time was over.
        lost: attempts that ended with their consumer.
        is_unproven: its last attempt made hardly any tokens, and was not handed over.
        began_ms: when its first frame was written, on Redis's clock.
    """

    seq: int = 0
    attempt: int = 0
    tokens: Sequence[int] = ()
    text: str = ""
    logprobs: Sequence[TokenLogprob] = ()
    finish: str = ""
    missed_deadline: bool = False
    lost: int = 0
    is_unproven: bool = True
    began_ms: int = 0


NOTHING = Resumption()


def resumption_of(frames: Iterable[Frame], began_ms: int) -> Resumption:
    """Return what all frames of a record, in order, come to.

    Raises:
        WireError: tokens of one are none.
    """
    count = attempt = lost = made = 0
    tokens: list[int] = []
    texts: list[str] = []
    logprobs: list[TokenLogprob] = []
    finish, flags = "", 0
    for frame in frames:
        if frame.flags & FIRST or not attempt:
            lost += attempt > 0 and not flags & HANDED_OVER
            attempt, made = frame.attempt, 0
        new = tokens_of(frame.tokens)
        count, made, finish, flags = count + 1, made + len(new), frame.finish, frame.flags
        tokens += new
        texts.append(frame.text)
        logprobs += frame.logprobs
    was_handed_over = bool(flags & HANDED_OVER)
    return Resumption(
        seq=count,
        attempt=attempt,
        tokens=tokens,
        text="".join(texts),
        logprobs=logprobs,
        finish=finish,
        missed_deadline=bool(flags & DEADLINE),
        lost=lost + (attempt > 0 and not was_handed_over),
        is_unproven=not was_handed_over and made < PROVEN_TOKENS,
        began_ms=began_ms,
    )
