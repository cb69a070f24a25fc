"""An engine without a model, for tests and for measuring everything around one: it repeats the prompt. Pure.

A token is a byte of UTF-8, so characters come in halves as they do with real models; one more token ends a sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Tokens
from itertools import chain
from typing import NamedTuple

from shared.wire.outcomes import MODEL_ERROR, RequestError

from . import checks
from .engine import EVERYTHING, Capacity, Finish, Sequence, Step, TokenLogprobs
from .sampling import uniform
from .text import TextStream, ending

END = 256
"""Ends a sequence when it is the prompt's last token, at the end of each repetition."""

VOCABULARY = 257
_LETTERS = b"abcdefghijklmnopqrstuvwxyz "


def encode(text: str) -> tuple[int, ...]:
    """Return the tokens of ``text``."""
    return tuple(text.encode())


def decode(tokens: Tokens[int]) -> str:
    """Return the text of ``tokens``."""
    return bytes(token for token in tokens if token != END).decode(errors="replace")


class _Running(NamedTuple):
    sequence: Sequence
    tokens: list[int]
    text: TextStream


class NullEngine:
    """See :class:`consumer.generation.engine.Engine`; one token for each sequence and step.

    With a temperature of 0 it repeats the prompt; above, the tokens are letters that the seed decides.

    Args:
        slots: sequences at once.
        context: tokens of one.
        pace: called at the beginning of each step that has something to do, such as one that waits for the next frame.
    """

    promises = EVERYTHING

    def __init__(self, slots: int, context: int, pace: Callable[[], None] = lambda: None) -> None:
        self._slots, self._context, self._pace = slots, context, pace
        self._running: dict[str, _Running] = {}

    def capacity(self) -> Capacity:
        """See the interface."""
        return Capacity(self._slots - len(self._running), self._context)

    def start(self, sequence: Sequence) -> None:
        """See the interface."""
        checks.check(sequence, self._context, VOCABULARY)
        if sequence.id in self._running:
            raise RuntimeError(f"a sequence {sequence.id!r} is in the engine already")
        if len(self._running) >= self._slots:
            raise RuntimeError("no slot is free")
        if sequence.constraint is not None:
            for token in sequence.generated:
                sequence.constraint.advance(token)
        text = TextStream(decode, sequence.stop, sequence.generated)
        self._running[sequence.id] = _Running(sequence, list(sequence.generated), text)

    def step(self) -> list[Step]:
        """See the interface."""
        if not self._running:
            return []
        self._pace()
        steps = [_advanced(one) for one in self._running.values()]
        for step in steps:
            if step.finish is not None:
                del self._running[step.id]
        return steps

    def cancel(self, id: str) -> None:
        """See the interface."""
        self._running.pop(id, None)

    def close(self) -> None:
        """See the interface."""
        self._running.clear()


def _advanced(running: _Running) -> Step:
    sequence, tokens, text = running
    ended = ending(sequence, tokens, text.stopped, (END,))
    if ended is not None:  # it had ended before it was taken over
        return Step(sequence.id, (), "" if text.stopped else text.end(), ended)
    try:
        token = _next(sequence, len(tokens))
    except RequestError as error:
        return Step(sequence.id, (), "", Finish.ERROR, error=error)
    tokens.append(token)
    new = text.push(token)
    ended = ending(sequence, tokens, text.stopped, (END,))
    if ended is not None and not text.stopped:
        new += text.end()
    likely = () if sequence.sampling.logprobs is None else (TokenLogprobs(token, decode([token]), 0.0),)
    return Step(sequence.id, (token,), new, ended, likely)


def _next(sequence: Sequence, position: int) -> int:
    prompt, sampling = sequence.prompt, sequence.sampling
    if sequence.constraint is not None:
        return _constrained(sequence, position)
    if sampling.temperature > 0:
        return _LETTERS[int(uniform(sampling.seed, len(prompt) + position) * len(_LETTERS))]
    return prompt[position % len(prompt)]


def _constrained(sequence: Sequence, position: int) -> int:
    """Return the allowed token that the prompt would have here, or else the lowest one."""
    constraint = sequence.constraint
    assert constraint is not None
    mask = constraint.allowed()
    wanted = sequence.prompt[position % len(sequence.prompt)]
    for token in chain((wanted,), range(VOCABULARY)):
        if token // 8 < len(mask) and mask[token // 8] >> token % 8 & 1:
            constraint.advance(token)
            return token
    raise RequestError(MODEL_ERROR, "No token is allowed here, so the schema cannot be fulfilled.")
