"""A model that generates: from a request to a sequence for an engine, and from what came of it to the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from consumer.generation import checks
from consumer.generation.engine import Engine, Finish, Sequence
from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.generated import Choice, Generated, Usage
from shared.wire.generation import CONTENT_TYPE, decode_generation
from shared.wire.messages import Request
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError

from . import prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONG_CHARACTERS = 2000
"""Longer bodies become tokens on the decode threads, and conversations, whose template may do anything."""

WARM_TOKENS = 2


class Reads(Protocol):
    """From what is asked to a sequence; see :class:`consumer.generation.request.Reader`. Any thread may call it."""

    def read(self, id: str, asked: Mapping[str, Any]) -> Sequence:
        """Make a sequence.

        Raises:
            RequestError: one sentence that names the member.
        """


class Opened(Protocol):
    """A language model that is ready; see :class:`consumer.generation.weights.opening.Opened`."""

    @property
    def engine(self) -> Engine:
        """What runs it; for one thread."""

    @property
    def reader(self) -> Reads:
        """What makes sequences for it."""

    @property
    def logits(self) -> Callable[[Rows[int]], NDArray[np.float32]] | None:
        """What the network says after a prompt, to compare precisions while nothing runs; None: it does not tell."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is to be generated for one request; ``sequence`` has no id yet."""

    sequence: Sequence
    is_streamed: bool
    run_ms: int | None


class Sampled:
    """What a sample became; numpy takes it for the logits after its prompt, to compare precisions.

    Args:
        logits: computes them; asked for while nothing runs.
    """

    def __init__(self, generated: Generated, logits: Callable[[], NDArray[np.float32]]) -> None:
        self.generated, self._logits = generated, logits

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self._logits().astype(dtype or "float32", copy=False)


class Generator(Model):
    """See :class:`consumer.models.base.Model`; what runs is its :attr:`engine`, step by step.

    Args:
        open_model: opens the model on a device, in a precision; called by ``load``.
        precisions_on: those that ``auto`` tries, for a device.
        engine: the name of what runs it, for its card.
    """

    def __init__(
        self,
        open_model: Callable[[str, str], Opened],
        precisions_on: Callable[[str], Rows[str]] = lambda device: ("fp32",),
        engine: str = "",
    ) -> None:
        self._open_model, self._precisions_on, self._engine_name = open_model, precisions_on, engine
        self._opened: Opened | None = None

    @property
    def opened(self) -> Opened:
        """What was loaded."""
        assert self._opened is not None, "the model is not loaded"
        return self._opened

    @property
    def engine(self) -> Engine:
        """The engine, once loaded; for one thread."""
        return self.opened.engine

    def describe(self) -> Description:
        """Say that a text or a conversation comes in and a text goes out."""
        text = (TensorSpec("text", "BYTES", ()),)
        return Description(inputs=text, outputs=text, content_types=(CONTENT_TYPE,), unit="token")

    def load(self, device: str, precision: str) -> None:
        """Open the model."""
        self._opened = self._open_model(device, precision)

    def precisions(self, device: str) -> Rows[str]:
        """Return those of the engine."""
        return self._precisions_on(device)

    def runtime(self) -> tuple[str, str]:
        """Name the engine, and say what it cannot do."""
        cannot = checks.limits(self.engine.promises) if self._engine_name else ""
        return self._engine_name, f"the engine of this model; {cannot}." if cannot else ""

    def decodes(self, request: Request) -> bool:
        """Say yes to what is long."""
        return request.body is not None and (len(request.body) > LONG_CHARACTERS or b"\xa8messages" in request.body)

    def preprocess(self, request: Request) -> Rows[Row]:
        """Return the one sequence that a request asks for.

        Raises:
            RequestError: it asks for what there is not; one sentence that names the member.
        """
        if request.content_type != CONTENT_TYPE or request.body is None:
            told = f"This model takes {CONTENT_TYPE}, not {str(request.content_type)[:80]}."
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, told)
        asked = decode_generation(request.body)
        return (Row(self.opened.reader.read("", asked.parameters), asked.stream, asked.run_ms),)

    def units(self, row: Row) -> int:
        """Return its tokens, those to be generated included."""
        return len(row.sequence.prompt) + row.sequence.max_tokens

    def run(self, rows: Rows[Row]) -> Rows[Any]:
        """Generate until all are complete, for warming up: to serve, the engine is asked step by step.

        Returns:
            Texts, complete; as :class:`Sampled` where precisions can be compared.
        """
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
        made = [
            Generated((Choice(0, texts[name], finishes[name]),), Usage(len(row.sequence.prompt), counts[name]), 0)
            for name, row in ((str(index), row) for index, row in enumerate(rows))
        ]
        logits = self.opened.logits
        if logits is None:
            return made
        return [Sampled(one, partial(logits, row.sequence.prompt)) for one, row in zip(made, rows, strict=True)]

    def postprocess(self, outputs: Rows[Any], request: Request) -> Result:
        """Return the one answer."""
        output = outputs[0]
        return Result(generated=output.generated if isinstance(output, Sampled) else output)

    def sample_rows(self, count: int) -> Rows[Row]:
        """Return short sequences; with many beginnings where precisions are compared by what follows them."""
        if self.opened.logits is None:
            return [self._sample(prompts.SHORTEST)] * count
        return [self._sample(prompts.prompt(number)) for number in range(count)]

    def _sample(self, prompt: str) -> Row:
        asked = {"prompt": prompt, "max_tokens": WARM_TOKENS, "temperature": 0, "ignore_end": True}
        try:
            return Row(self.opened.reader.read("", asked), False, None)
        except RequestError:  # it is longer than the context
            if prompt == prompts.SHORTEST:
                raise
            return self._sample(prompts.SHORTEST)

    def close(self) -> None:
        """Give the engine's memory back."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.engine.close()
