"""A model of the user's own whose batches are run in parts once memory has run out, as those of the networks are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shared.wire import Request

from .base import Description, Model, Result
from .halving import Halving

if TYPE_CHECKING:
    from consumer.notes import Notes


class Fitting(Model):
    """Passes everything on to ``model``, and its batches in parts that fit.

    Args:
        recover: gives back what a failed attempt held.
    """

    def __init__(self, model: Model, recover: Callable[[], None]) -> None:
        self._model = model
        self._in_parts: Halving[Sequence[Any]] = Halving(model.run, recover=recover)

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """See the interface."""
        return self._in_parts(rows)

    def working_rows(self) -> int | None:
        """See the interface."""
        return self._in_parts.working_rows

    def padded_rows(self) -> int:
        """See the interface."""
        return self._model.padded_rows()

    def describe(self) -> Description:
        """See the interface."""
        return self._model.describe()

    def load(self, device: str, precision: str) -> None:
        """See the interface."""
        self._model.load(device, precision)

    def preprocess(self, request: Request) -> Sequence[Any]:
        """See the interface."""
        return self._model.preprocess(request)

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """See the interface."""
        return self._model.postprocess(outputs, request)

    def sample_rows(self, count: int) -> Sequence[Any]:
        """See the interface."""
        return self._model.sample_rows(count)

    def precisions(self, device: str) -> Sequence[str]:
        """See the interface."""
        return self._model.precisions(device)

    def tune(self, notes: Notes, allowed: frozenset[str] | None) -> None:
        """See the interface."""
        self._model.tune(notes, allowed)

    def recipe(self) -> tuple[str, ...]:
        """See the interface."""
        return self._model.recipe()

    def device_busy_s(self) -> float | None:
        """See the interface."""
        return self._model.device_busy_s()

    def decodes(self, request: Request) -> bool:
        """See the interface."""
        return self._model.decodes(request)
