"""The null generator: it repeats its prompt, and so measures everything around a language model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from consumer.generation import null_engine
from consumer.generation.engine import Constraint
from consumer.generation.null_engine import NullEngine
from consumer.generation.request import Reader
from shared.wire.outcomes import invalid

from .generator import Generator

OPTIONS = {"slots": 256, "context": 4096, "step_ms": 0}


class _Texts:
    """A token is a byte."""

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text."""
        return null_engine.encode(text)

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[int, ...]:
        """Return the tokens of what was said last."""
        return self.encode(messages[-1]["content"])


class _NoSchemas:
    """Bytes are held to nothing."""

    def constraint(self, schema: object) -> Constraint:
        """Refuse."""
        raise invalid("This model cannot hold a text to a schema.", "schema")


@dataclass(frozen=True, slots=True)
class Null:
    """See :class:`consumer.models.generate.generator.Opened`."""

    engine: NullEngine
    reader: Reader
    logits: None = None


def pace(step_ms: float, now_s: Callable[[], float] = time.monotonic) -> Callable[[], None]:
    """Return what lets steps begin ``step_ms`` apart; a step that comes late shifts those after it."""
    if not step_ms:
        return lambda: None
    next_s = now_s()

    def wait() -> None:
        nonlocal next_s
        next_s = max(next_s + step_ms / 1000, now_s())
        time.sleep(max(0.0, next_s - now_s()))

    return wait


def build(options: Mapping[str, Any]) -> Generator:
    """Make one.

    Args:
        options: ``slots`` sequences at once, of ``context`` tokens each, whose steps begin ``step_ms`` apart.

    Raises:
        ValueError: an option is unknown or no number of at least 1, or 0 for ``step_ms``.
    """
    unknown = sorted(options.keys() - OPTIONS.keys())
    if unknown:
        raise ValueError(f"there is no option {unknown[0]!r}; architecture 'null' has {', '.join(OPTIONS)}.")
    chosen = {**OPTIONS, **options}
    for name, value in chosen.items():
        least = 0 if name == "step_ms" else 1
        if type(value) not in (int, float) or value < least:
            raise ValueError(f"option {name} must be a number of at least {least}, not {value!r}.")
    slots, context, step_ms = int(chosen["slots"]), int(chosen["context"]), float(chosen["step_ms"])
    reader = Reader(_Texts(), _NoSchemas(), context, null_engine.VOCABULARY)
    return Generator(lambda device, precision: Null(NullEngine(slots, context, pace(step_ms)), reader))
