"""Which models are ready and which failed, while a stack starts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Report:
    """What the start of a stack came to.

    Attributes:
        ready: models that have answered, or that no request could be sent to.
        failed: models without a live consumer, or that did not answer; with the reason, one sentence.
        loading: models that have neither answered nor failed yet.
    """

    ready: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    loading: tuple[str, ...] = ()


class BringUp:
    """Follows the start of each model until it is ready or has failed.

    Args:
        consumers: of each model, the names of its consumers.
        asked: models for which a probe waits; the others count as ready unless their consumers die.
    """

    def __init__(self, consumers: Mapping[str, Iterable[str]], asked: Iterable[str]) -> None:
        self._left = {model: set(names) for model, names in consumers.items()}
        self._open = set(asked)
        self._failed: dict[str, str] = {}

    @property
    def is_settled(self) -> bool:
        """Whether nothing is waited for any more."""
        return not self._open

    @property
    def is_late(self) -> bool:
        """Whether some models are ready or have failed, and others are still waited for."""
        return 0 < len(self._open) < len(self._left)

    def died(self, model: str, consumer: str, why: str) -> int | None:
        """Record that a consumer died; returns how many of its model's are still waited for, None when none ever was.

        It is started again, but the start of the others does not wait for that.
        """
        left = self._left.get(model, set())
        left.discard(consumer)
        if model not in self._open:
            return None
        if not left:
            self._fail(model, why)
        return len(left)

    def answered(self, model: str) -> None:
        """Record that a real answer has come from ``model``."""
        self._open.discard(model)

    def did_not_answer(self, model: str, why: str) -> None:
        """Record that ``model`` gave no answer, although its consumers live."""
        if model in self._open:
            self._fail(model, why)

    def _fail(self, model: str, why: str) -> None:
        self._open.discard(model)
        self._failed[model] = why

    def report(self) -> Report:
        """Say what the start came to."""
        ready = tuple(model for model in self._left if model not in self._failed and model not in self._open)
        return Report(ready, dict(self._failed), tuple(model for model in self._left if model in self._open))
