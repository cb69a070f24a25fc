"""One generation in the engine, and the answer that comes of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from consumer.generation.engine import Step
from consumer.models.generate.generator import Row
from consumer.pipeline.items import Item
from shared.wire.frames import TokenLogprob
from shared.wire.generated import Choice, Generated, Usage

from .resumption import PROVEN_TOKENS

FIRST = -1.0
"""In place of a gap: no token came before in this attempt."""


@dataclass(slots=True)
class Running:
    """What the executor knows of it. Times are monotonic seconds.

    Attributes:
        name: the engine's name of it.
        until_s: when its time is over; infinity for never.
        made: tokens of this attempt.
        is_unproven: it may be what ended its last consumer.
        gap_s: seconds for each token of the last step that had some, since the token before it; ``FIRST`` at first.
    """

    name: str
    item: Item
    row: Row
    began_s: float
    until_s: float
    tokens: int
    texts: list[str]
    logprobs: list[TokenLogprob]
    made: int = 0
    is_unproven: bool = False
    first_token_s: float = field(default=0.0)
    last_token_s: float = field(default=0.0)
    gap_s: float = field(default=FIRST)

    def take(self, step: Step, now_s: float) -> list[TokenLogprob]:
        """Note what a step has brought; returns its log-probabilities as frames have them."""
        if new := len(step.tokens):
            if self.made:
                self.gap_s = (now_s - self.last_token_s) / new
            else:
                self.first_token_s = now_s
            self.last_token_s = now_s
            self.made += new
            self.tokens += new
        if step.text:
            self.texts.append(step.text)
        likely = _likely(step)
        self.logprobs += likely
        return likely

    @property
    def is_proven_now(self) -> bool:
        """Say whether it was unproven and has gone far enough."""
        return self.is_unproven and self.made >= PROVEN_TOKENS

    @property
    def cost(self) -> int:
        """Tokens that the device has worked on in this attempt: those of the prompt, and those that it made."""
        return len(self.row.sequence.prompt) + self.made

    def generated(self, finish: str, frames: int, ended: str = "") -> Generated:
        """Return the whole answer."""
        text = "".join(self.texts)
        choice = Choice(0, text, finish, tuple(self.logprobs))
        return Generated((choice,), Usage(len(self.row.sequence.prompt), self.tokens), frames, ended)


def _likely(step: Step) -> list[TokenLogprob]:
    return [TokenLogprob(one.token, one.text, one.logprob, one.top) for one in step.logprobs]


def longest(running: Iterable[Running]) -> float:
    """Return when the last of them is not waited for any more; minus infinity for none."""
    return max((one.until_s for one in running), default=float("-inf"))
