"""A model that generates: from a request to a sequence for an engine, and from what came of it to the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from consumer.generation import engine as generation
from consumer.generation.checks import check_length
from consumer.generation.engine import Constraint, Engine, Finish, Sampling
from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.generated import Choice, Generated, Usage
from shared.wire.generation import CONTENT_TYPE, Generation, decode_generation
from shared.wire.messages import Request
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError, invalid

LONG_CHARACTERS = 2000
"""Longer bodies become tokens on the decode threads, and conversations, whose template may do anything."""

WARM_TOKENS = 2


class Prompts(Protocol):
    """From texts to tokens, as one model has them. Called on any thread, several at once."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text."""

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
        """Return the tokens of a conversation that the model is to go on with.

        Raises:
            RequestError: the model has no template, or it does not take this conversation.
        """

    def constraint(self, schema: str) -> Constraint:
        """Return what holds a text to a JSON Schema.

        Raises:
            RequestError: it is none, or cannot be held to.
        """


@dataclass(frozen=True, slots=True)
class Row:
    """What is to be generated for one request; ``sequence`` has no id yet."""

    sequence: generation.Sequence
    is_streamed: bool
    run_ms: int | None


class Generator(Model):
    """See :class:`consumer.models.base.Model`; what runs is its :attr:`engine`, step by step.

    Args:
        make_engine: makes the engine for a device and a precision; called by ``load``.
        prompts: of the same model.
        precisions_on: those that ``auto`` tries, for a device.
    """

    def __init__(
        self,
        make_engine: Callable[[str, str], Engine],
        prompts: Prompts,
        precisions_on: Callable[[str], Sequence[str]] = lambda device: ("fp32",),
    ) -> None:
        self._make_engine, self._prompts, self._precisions_on = make_engine, prompts, precisions_on
        self._engine: Engine | None = None
        self._context = 0

    @property
    def engine(self) -> Engine:
        """The engine, once loaded; for one thread."""
        assert self._engine is not None, "the model is not loaded"
        return self._engine

    def describe(self) -> Description:
        """Say that a text or a conversation comes in and a text goes out."""
        text = (TensorSpec("text", "BYTES", ()),)
        return Description(inputs=text, outputs=text, content_types=(CONTENT_TYPE,), unit="token")

    def load(self, device: str, precision: str) -> None:
        """Make the engine."""
        self._engine = self._make_engine(device, precision)
        self._context = self._engine.capacity().tokens

    def precisions(self, device: str) -> Sequence[str]:
        """Return those of the engine."""
        return self._precisions_on(device)

    def decodes(self, request: Request) -> bool:
        """Say yes to what is long."""
        return request.body is not None and (len(request.body) > LONG_CHARACTERS or b"\xa8messages" in request.body)

    def preprocess(self, request: Request) -> Sequence[Row]:
        """Return the one sequence that a request asks for.

        Raises:
            RequestError: it asks for what there is not; one sentence that names the member.
        """
        if request.content_type != CONTENT_TYPE or request.body is None:
            told = f"This model takes {CONTENT_TYPE}, not {str(request.content_type)[:80]}."
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, told)
        wanted = decode_generation(request.body)
        prompt = self._tokens(wanted)
        if not prompt:
            raise invalid("The prompt must have at least one token.", "prompt")
        room = self._context - len(prompt)
        asked = max(1, room) if wanted.max_tokens is None else wanted.max_tokens
        check_length(len(prompt), asked, self._context)
        sampling = Sampling(wanted.temperature, wanted.top_p, wanted.top_k, wanted.seed, wanted.logprobs)
        constraint = None if wanted.schema is None else self._prompts.constraint(wanted.schema)
        sequence = generation.Sequence(
            "", prompt, asked, sampling, wanted.stop, constraint=constraint, ignores_end=wanted.ignores_end
        )
        return (Row(sequence, wanted.stream, wanted.run_ms),)

    def _tokens(self, wanted: Generation) -> tuple[int, ...]:
        if wanted.tokens is not None:
            return wanted.tokens
        if wanted.messages is not None:
            return self._prompts.chat(wanted.messages)
        return self._prompts.encode(wanted.prompt or "")

    def units(self, row: Row) -> int:
        """Return its tokens, those to be generated included."""
        return len(row.sequence.prompt) + row.sequence.max_tokens

    def run(self, rows: Sequence[Row]) -> Sequence[Generated]:
        """Generate until all are complete, for warming up: to serve, the engine is asked step by step."""
        engine = self.engine
        waiting = [(str(index), row) for index, row in enumerate(rows)]
        waiting.reverse()
        texts = {name: "" for name, _ in waiting}
        counts = dict.fromkeys(texts, 0)
        finishes: dict[str, str] = {}
        while len(finishes) < len(rows):
            while waiting and engine.capacity().slots > 0:
                name, row = waiting.pop()
                engine.start(replace(row.sequence, id=name))
            for step in engine.step():
                if step.finish is Finish.ERROR:
                    raise step.error or ValueError("the model failed on a sample")
                texts[step.id] += step.text
                counts[step.id] += len(step.tokens)
                if step.finish is not None:
                    finishes[step.id] = step.finish.value
        return [
            Generated((Choice(0, texts[name], finishes[name]),), Usage(len(row.sequence.prompt), counts[name]), 0)
            for name, row in ((str(index), row) for index, row in enumerate(rows))
        ]

    def postprocess(self, outputs: Sequence[Generated], request: Request) -> Result:
        """Return the one answer."""
        return Result(generated=outputs[0])

    def sample_rows(self, count: int) -> Sequence[Row]:
        """Return short sequences."""
        prompt = self._prompts.encode("Hello") or (0,)
        return [Row(generation.Sequence("", prompt, WARM_TOKENS, ignores_end=True), False, None)] * count

    def close(self) -> None:
        """Give the engine's memory back."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
