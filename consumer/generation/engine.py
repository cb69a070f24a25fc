"""What generates: the interface of an engine, and what goes into it and comes out of it. Pure.

An engine runs many sequences at once and moves each of them on by a token or more in a ``step``. Sequences join and
leave between steps. One thread, always the same, makes all calls.

An engine that is taken away in the middle loses nothing: ``start`` with the tokens that were generated so far goes on
as if nothing had happened. So everything that decides a token is a function of the sequence and of the position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from shared.wire.outcomes import RequestError

MOST_SEED = (1 << 64) - 1
MOST_TOP_LOGPROBS = 20
MOST_STOPS = 4
MOST_STOP_CHARACTERS = 256


class Finish(StrEnum):
    """Why a sequence ended: the model ended it or a stop string did, the tokens are used up, or it failed."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen from the distribution.

    Attributes:
        temperature: 0 takes the likeliest token; above, logits are divided by it.
        top_p: the smallest set of tokens that has this probability is kept; 1 keeps all.
        top_k: so many likeliest tokens are kept; 0 keeps all.
        seed: with the position it decides the draw; 0 to 2**64 - 1.
        logprobs: how many of the likeliest tokens are reported beside each token; None reports nothing.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    logprobs: int | None = None


GREEDY = Sampling()


class Constraint(Protocol):
    """Says which tokens may come next, such as those that lead to JSON of a schema. One for each sequence."""

    def allowed(self) -> bytes:
        """Return a bit for each token, the lowest of the first byte for token 0: set where it may come next.

        Raises:
            RequestError: it cannot say, because the constraint is too complex.
        """

    def advance(self, token: int) -> None:
        """Take the token that came.

        Raises:
            RequestError: this token was not allowed.
        """


@dataclass(frozen=True, slots=True)
class Sequence:
    """What to generate.

    Attributes:
        id: unique among those in the engine.
        prompt: token ids, at least one.
        max_tokens: most tokens to generate, those of ``generated`` included; at least 1.
        stop: texts that end it; they are not part of its text. At most 4, each of 1 to 256 characters.
        generated: what was generated before, in order, when it goes on after a crash or on another consumer.
        constraint: which tokens may come; it has not seen any of ``generated`` yet.
        ignores_end: goes on where the model would end it; for measuring.
    """

    id: str
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = GREEDY
    stop: tuple[str, ...] = ()
    generated: tuple[int, ...] = ()
    constraint: Constraint | None = field(default=None, compare=False)
    ignores_end: bool = False


class TokenLogprobs(NamedTuple):
    """The logarithm of the probability of a token before temperature and cuts, and of the likeliest ones, best first.

    ``text`` and the keys' texts are what the tokens say alone: half a character is U+FFFD there.
    """

    token: int
    text: str
    logprob: float
    top: tuple[tuple[int, str, float], ...] = ()


class Step(NamedTuple):
    """How far a step moved one sequence on.

    Attributes:
        id: the sequence's.
        tokens: new token ids; the one that ended it is among them.
        text: new text: whole characters, and nothing that may be the beginning of a stop string.
        finish: why it ended; None while it goes on.
        logprobs: one for each token, if they were asked for.
        error: what it met, if ``finish`` is ``ERROR``; others do not notice.
    """

    id: str
    tokens: tuple[int, ...]
    text: str
    finish: Finish | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    error: RequestError | None = None


class Promises(NamedTuple):
    """What an engine can do beyond generating. What it cannot, it refuses in ``start`` by the name of the field.

    Attributes:
        draws_go_on: where a sequence with a temperature goes on elsewhere, it gets the tokens that it would have got.
            Without it, a seed decides the tokens only as long as nothing interrupts, and then others are drawn.
        logprobs: most of the likeliest tokens that are reported beside each token; None: it reports no probabilities.
        schemas: it keeps to a ``constraint``.
    """

    draws_go_on: bool = True
    logprobs: int | None = MOST_TOP_LOGPROBS
    schemas: bool = True


EVERYTHING = Promises()


class EngineDied(RuntimeError):
    """An engine that will not answer any more, such as one on a device that failed.

    Its consumer ends and is started again; its sequences go on there, or on another consumer, at their next token.
    """


class Capacity(NamedTuple):
    """What an engine takes.

    Attributes:
        slots: sequences that could start now, each of them as long as ``tokens``.
        tokens: most tokens of a sequence, prompt and ``max_tokens`` together.
    """

    slots: int
    tokens: int


class Engine(Protocol):
    """Runs sequences. Every engine passes ``tests/unit/consumer/generation/test_engine_contract.py``."""

    @property
    def promises(self) -> Promises:
        """What it can do beyond generating."""

    def capacity(self) -> Capacity:
        """Say what could start now."""

    def start(self, sequence: Sequence) -> None:
        """Let a sequence join the next step. Room for its prompt and ``max_tokens`` is reserved: nothing is preempted.

        Raises:
            RequestError: it can never run: it is too long (``context_length_exceeded``), empty, or asks for what this
                engine has not; one sentence that names the field.
            RuntimeError: no slot is free, or its id is in the engine already.
        """

    def step(self) -> list[Step]:
        """Move on; return what is new, in the order in which sequences started. Empty if nothing is in the engine.

        A sequence that only had a part of its prompt read is not among them. Each sequence that starts ends with
        exactly one step that has a ``finish``, unless it is cancelled.

        Raises:
            EngineDied: it cannot go on with any of them, now or later.
        """

    def cancel(self, id: str) -> None:
        """Drop a sequence: no later step names it and its slot is free at once. An unknown id is no error."""

    def close(self) -> None:
        """Give the memory back. Nothing is called afterwards."""
