"""How many tokens an engine gets done in a second while it has as much to do as it takes. Pure."""

from __future__ import annotations

import math

MEMORY_S = 10.0
"""What counts is the last ten seconds or so in which every slot was taken."""

USUAL_WEIGHT = 0.05
"""Weight of the newest answer in the running estimate of how long one is."""


class Throughput:
    """Measures it: prompts and what is generated alike. For one thread; any may read the attributes.

    Only steps with every slot taken count: with fewer sequences an engine gets less done than it could.

    Attributes:
        tokens_per_s: None until it was full for a while.
        answer_tokens: what is generated for one request, on average; None until one has ended.
    """

    LEAST_S = 0.5
    """So long it was full before anything is said."""

    def __init__(self) -> None:
        self.tokens_per_s: float | None = None
        self.answer_tokens: float | None = None
        self._tokens = self._full_s = self._seen_s = 0.0
        self._is_full = False

    def started(self, prompt_tokens: int) -> None:
        """Note a prompt that the next steps read."""
        if self._is_full:
            self._tokens += prompt_tokens

    def stepped(self, made: int, took_s: float, *, is_full: bool) -> None:
        """Note a step that made so many tokens."""
        self._is_full = is_full
        if not is_full or not took_s > 0.0:
            return
        kept = math.exp(-took_s / MEMORY_S)
        self._tokens = kept * self._tokens + made
        self._full_s = kept * self._full_s + took_s
        self._seen_s += took_s
        if self._seen_s >= self.LEAST_S:
            self.tokens_per_s = self._tokens / self._full_s

    def ended(self, generated: int) -> None:
        """Note the tokens of a whole answer."""
        usual = float(generated) if self.answer_tokens is None else self.answer_tokens
        self.answer_tokens = usual + USUAL_WEIGHT * (generated - usual)
