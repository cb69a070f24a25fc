"""The frames of one generation before they are written: what is there, and when it is to go. Pure.

The first frame goes at once, since somebody waits for it. After that frames are collected for a while: each costs the
server and every reader something, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from consumer.queue.interface import Emitted
from shared.wire.frames import Frame, TokenLogprob, encode_frame, pack_tokens

SOON_S = 0.02
"""Between two frames of a stream that somebody reads: less than the eye sees, more than one step of a small model."""

LATER_S = 0.5
"""Between two frames that are only there for another consumer to go on with."""

RENEW_SHARE = 0.25
"""Of a record's time to live: after so much of it, a frame lets it live on."""

_AT_ONCE, _NEVER = float("-inf"), float("inf")
_DONE = (Emitted.WRITTEN, Emitted.REPEATED)


class Taken(NamedTuple):
    """A frame to be written, and how long its record is to stay from now on: 0 while there is enough left."""

    seq: int
    frame: bytes
    expiry_ms: int


class Outgoing:
    """Collects what is new of one generation, and cuts it into frames.

    A frame that was taken stays as it is until it has been settled: it may have been written although nobody heard of
    it, and a frame is never written twice with different contents.

    Args:
        attempt: which one this is.
        seq: number of the next frame.
        expiry_ms: how long the record stays without a new frame.
        is_streamed: somebody reads along.
        flags: of the next frame; with any, it goes at once.

    Attributes:
        is_silent: no more frames are written: the record is gone, or another one's.
        is_lost: the generation is not this consumer's any more.
    """

    def __init__(
        self, name: str, attempt: int, seq: int, expiry_ms: int, *, is_streamed: bool = True, flags: int = 0
    ) -> None:
        self._name, self._attempt, self._seq, self._expiry_ms = name, attempt, seq, expiry_ms
        self._every_s = SOON_S if is_streamed else LATER_S
        self._is_hurried = is_streamed
        self._flags, self._finish = flags, ""
        self._tokens: list[int] = []
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._first_s = _NEVER
        self._written_s = self._kept_s = -_NEVER
        self._taken: Taken | None = None
        self._ends = False
        self.is_silent = self.is_lost = False

    @property
    def seq(self) -> int:
        """How many frames have been written."""
        return self._seq

    @property
    def is_over(self) -> bool:
        """Say whether it has ended and nothing more is to be written."""
        has_nothing = self._taken is None and not (self._tokens or self._texts or self._flags or self._finish)
        return self._ends and (self.is_silent or self.is_lost or has_nothing)

    def add(self, tokens: Iterable[int], text: str, logprobs: Iterable[TokenLogprob], now_s: float) -> None:
        """Collect what a step has brought."""
        if self.is_silent:
            return
        if not (self._tokens or self._texts):
            self._first_s = now_s
        self._tokens += tokens
        self._logprobs += logprobs
        if text:
            self._texts.append(text)

    def end(self, finish: str, flags: int = 0) -> None:
        """Let the next frame be the last, and go at once.

        Args:
            finish: why; empty if another consumer goes on.
        """
        self._finish, self._ends = finish, True
        self._flags |= flags

    def due_s(self) -> float:
        """Return when the next frame is to go: minus infinity for at once, infinity while there is nothing for it."""
        if self.is_silent or self.is_lost:
            return _NEVER
        if self._taken is not None or self._flags or self._finish:
            return _AT_ONCE
        if not (self._tokens or self._texts):
            return _NEVER
        if self._is_hurried:  # half a character is nothing to see, but something to go on with
            return _AT_ONCE if self._texts else self._first_s + LATER_S
        return max(self._written_s, self._first_s - self._every_s) + self._every_s

    def take(self, now_s: float) -> Taken:
        """Return the next frame."""
        if self._taken is None:
            frame = Frame(
                self._name,
                self._seq,
                self._attempt,
                pack_tokens(self._tokens),
                "".join(self._texts),
                self._flags,
                self._finish,
                tuple(self._logprobs),
            )
            is_due = self._seq == 0 or now_s - self._kept_s > self._expiry_ms / 1000 * RENEW_SHARE or self._ends
            self._taken = Taken(self._seq, encode_frame(frame), self._expiry_ms if is_due else 0)
            self._is_hurried = self._is_hurried and not self._texts
            self._tokens, self._texts, self._logprobs = [], [], []
            self._flags, self._finish, self._first_s = 0, "", _NEVER
        return self._taken

    def settle(self, emitted: Emitted, now_s: float) -> None:
        """Note what became of the frame that was taken."""
        taken = self._taken
        if taken is None or emitted is Emitted.FULL:
            return
        self._taken = None
        if emitted in _DONE:
            self._seq += 1
            self._written_s = now_s
            if taken.expiry_ms:
                self._kept_s = now_s
        elif emitted is Emitted.LOST:
            self.is_lost = True
        else:
            self.is_silent = True
