"""An engine of another library behind the interface: what it leaves to us is texts, stop strings and the order. Pure.

The library is only asked for tokens, as many as ``max_tokens`` leaves; where a sequence ends before, it is cancelled.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple, Protocol

from shared.wire.outcomes import RequestError

from . import checks
from .detokeniser import Decode
from .engine import Capacity, EngineDied, Finish, Promises, Sequence, Step, TokenLogprobs
from .text import TextStream, ending

_KEYS = count(1)


class News(NamedTuple):
    """A token of one sequence, or why there is none; ``error`` ends the sequence and has no token."""

    key: str
    token: int = -1
    logprobs: tuple[TokenLogprobs, ...] = ()
    error: RequestError | None = None


class Library(Protocol):
    """What makes tokens. All calls come from one thread.

    Attributes:
        context: most tokens of a sequence.
        vocabulary: how many tokens there are.
    """

    context: int
    vocabulary: int
    promises: Promises

    def add(self, key: str, sequence: Sequence) -> None:
        """Let a sequence join; ``key`` was never used before. Its constraint has seen ``generated``."""

    def step(self) -> Iterable[News]:
        """Move on; return what is new, in the order of the tokens of each sequence. Whatever it raises is its end."""

    def cancel(self, key: str) -> None:
        """Drop a sequence; nothing of it comes in later steps, and its memory is free for the next. It may be gone."""

    def close(self) -> None:
        """Give the memory back; also after it failed."""


@dataclass(slots=True)
class _Running:
    key: str
    sequence: Sequence
    tokens: list[int]
    text: TextStream
    is_over: bool
    new: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    likely: list[TokenLogprobs] = field(default_factory=list)
    finish: Finish | None = None
    error: RequestError | None = None


class LibraryEngine:
    """See :class:`consumer.generation.engine.Engine`.

    Args:
        library: what makes tokens; it takes ``slots`` sequences of ``context`` tokens at once.
        decode: the text of tokens.
        ends: tokens with which the model ends a text.
    """

    def __init__(self, library: Library, slots: int, decode: Decode, ends: Container[int]) -> None:
        self._library, self._slots, self._decode, self._ends = library, slots, decode, ends
        self._running: dict[str, _Running] = {}

    @property
    def promises(self) -> Promises:
        """See the interface."""
        return self._library.promises

    def capacity(self) -> Capacity:
        """See the interface."""
        return Capacity(self._slots - len(self._running), self._library.context)

    def start(self, sequence: Sequence) -> None:
        """See the interface."""
        checks.check(sequence, self._library.context, self._library.vocabulary, self.promises)
        if sequence.id in self._running:
            raise RuntimeError(f"a sequence {sequence.id!r} is in the engine already")
        if len(self._running) >= self._slots:
            raise RuntimeError("no slot is free")
        if sequence.constraint is not None:
            for token in sequence.generated:
                sequence.constraint.advance(token)
        text = TextStream(self._decode, sequence.stop, sequence.generated)
        tokens = list(sequence.generated)
        is_over = ending(sequence, tokens, text.stopped, self._ends) is not None
        one = _Running(str(next(_KEYS)), sequence, tokens, text, is_over)
        if not is_over:
            self._library.add(one.key, sequence)
        self._running[sequence.id] = one

    def step(self) -> list[Step]:
        """See the interface."""
        for one in self._running.values():
            if one.is_over:
                self._end(one)
        by_key = {one.key: one for one in self._running.values() if not one.is_over}
        if by_key:
            for news in self._news():
                found = by_key.get(news.key)
                if found is not None and found.finish is None:
                    self._take(found, news)
        return self._steps()

    def cancel(self, id: str) -> None:
        """See the interface."""
        one = self._running.pop(id, None)
        if one is not None and not one.is_over:
            self._library.cancel(one.key)

    def close(self) -> None:
        """See the interface."""
        self._running.clear()
        self._library.close()

    def _news(self) -> Iterable[News]:
        try:
            return self._library.step()
        except Exception as error:
            raise EngineDied(f"the engine failed: {type(error).__name__}: {str(error)[:300]}") from error

    def _take(self, one: _Running, news: News) -> None:
        if news.error is not None:
            one.finish, one.error = Finish.ERROR, news.error
            return
        one.tokens.append(news.token)
        one.new.append(news.token)
        one.likely += news.logprobs
        one.said.append(one.text.push(news.token))
        self._end(one)

    def _end(self, one: _Running) -> None:
        """Note whether it is over, and then what was held back."""
        one.finish = ending(one.sequence, one.tokens, one.text.stopped, self._ends)
        if one.finish is not None and not one.text.stopped:
            one.said.append(one.text.end())

    def _steps(self) -> list[Step]:
        steps = []
        for one in list(self._running.values()):
            if not one.new and one.finish is None:
                continue
            steps.append(
                Step(one.sequence.id, tuple(one.new), "".join(one.said), one.finish, tuple(one.likely), one.error)
            )
            if one.finish is not None:
                del self._running[one.sequence.id]
                if not one.is_over and len(one.tokens) < one.sequence.max_tokens:
                    self._library.cancel(one.key)
            one.new, one.said, one.likely = [], [], []
        return steps
