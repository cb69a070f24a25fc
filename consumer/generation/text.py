"""The text of one sequence: from tokens through whole characters to what no stop string can take back. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable
from collections.abc import Sequence as Sequence_

from .detokeniser import Decode, Detokeniser
from .engine import Finish, Sequence
from .stops import StopMatcher


class TextStream:
    """Makes text of tokens.

    Args:
        stops: see :class:`consumer.generation.stops.StopMatcher`.
        before: tokens whose text was given in an earlier attempt; it is not given again.
    """

    __slots__ = ("_detokeniser", "_matcher", "stopped")

    def __init__(self, decode: Decode, stops: tuple[str, ...], before: Iterable[int] = ()) -> None:
        self._detokeniser = Detokeniser(decode)
        self._matcher = StopMatcher(stops)
        self.stopped = False
        for token in before:
            self.push(token)

    def push(self, token: int) -> str:
        """Take a token; return new text. ``stopped`` then says whether a stop string was completed."""
        text, self.stopped = self._matcher.feed(self._detokeniser.push(token))
        return text

    def end(self) -> str:
        """Return what was held back, when the sequence ends without a stop string."""
        text, self.stopped = self._matcher.feed(self._detokeniser.flush())
        return text if self.stopped else text + self._matcher.flush()


def ending(sequence: Sequence, tokens: Sequence_[int], stopped: bool, ends: Container[int]) -> Finish | None:
    """Say whether a sequence is over after ``tokens``, and why.

    Args:
        stopped: a stop string was completed.
        ends: tokens with which the model ends it.
    """
    if stopped or (tokens and tokens[-1] in ends and not sequence.ignores_end):
        return Finish.STOP
    return Finish.LENGTH if len(tokens) >= sequence.max_tokens else None
