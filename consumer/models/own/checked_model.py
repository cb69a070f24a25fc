"""A model of the user's own, seen from the stages: what its methods return is checked, and its batches are run in parts
once memory has run out, as those of the networks are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from consumer.fork_guard import never_in_a_fork, put_back
from consumer.models.base import ROW, Description, Model, Result
from consumer.models.model_errors import described
from consumer.runtimes.oom_splitting import OomSplitting
from shared.wire.messages import Request

from . import returned
from .promises import AnswerCheck

if TYPE_CHECKING:
    from consumer.models.pictures.decode_cost import Effort

log = logging.getLogger(__name__)

T = TypeVar("T")


class CheckedModel(Model):
    """Passes everything on to ``model``, and its batches in parts that fit; checks what comes back.

    What cannot be used raises :class:`~consumer.models.own.returned.Unusable`, a ``ValueError`` of one sentence; an
    answer that is not what the description promises raises a ``RequestError``, ``MODEL_ERROR``. Counts that are none
    count as not kept, and the log says so once.

    Args:
        recover: gives back what a failed attempt held.
    """

    def __init__(self, model: Model, recover: Callable[[], None]) -> None:
        self._model = model
        self._in_parts: OomSplitting[Sequence[Any]] = OomSplitting(self._run_part, recover=recover)
        self._description: Description | None = None
        self._check: AnswerCheck | None = None
        self._miscounts: set[str] = set()

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """See the interface."""
        return self._in_parts(rows)

    @never_in_a_fork
    def _run_part(self, rows: Sequence[Any]) -> Sequence[Any]:
        count = len(rows)  # known before: a model may use its rows up
        found: Sequence[Any] = returned.outputs(self._model.run(rows), count)
        return found

    def working_rows(self) -> int | None:
        """See the interface."""
        return self._in_parts.working_rows

    def padded_rows(self) -> int:
        """See the interface."""
        return self._counted("padded_rows", lambda: returned.whole(self._model.padded_rows()), 0)

    def computed_rows(self, rows: int) -> int:
        """See the interface; never fewer than there are."""
        return max(rows, self._counted("computed_rows", lambda: returned.whole(self._model.computed_rows(rows)), rows))

    def padded_units(self) -> int:
        """See the interface."""
        return self._counted("padded_units", lambda: returned.whole(self._model.padded_units()), 0)

    @never_in_a_fork
    def describe(self) -> Description:
        """See the interface; asked once."""
        if self._description is None:
            found = returned.description(self._model.describe())
            if found.unit == ROW and type(self._model).units is not Model.units:
                raise returned.Unusable("units() is only asked where the Description names a unit other than row.")
            self._description = found
        return self._description

    @never_in_a_fork
    def load(self, device: str, precision: str) -> None:
        """See the interface."""
        try:
            self._model.load(device, precision)
        finally:
            put_back()

    @never_in_a_fork
    def example(self) -> Request | Mapping[str, Any] | str | bytes | None:
        """See the interface."""
        return self._model.example()

    @never_in_a_fork
    def close(self) -> None:
        """See the interface."""
        self._model.close()

    @never_in_a_fork
    def preprocess(self, request: Request) -> Sequence[Any]:
        """See the interface."""
        return returned.rows(self._model.preprocess(request))

    @never_in_a_fork
    def units(self, row: Any) -> int:
        """See the interface."""
        return returned.units(self._model.units(row))

    @never_in_a_fork
    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """See the interface; the answer is checked.

        Raises:
            RequestError: ``MODEL_ERROR``: it is not what description and protocol promise.
        """
        if self._check is None:
            self._check = AnswerCheck(self.describe())
        return self._check(self._model.postprocess(outputs, request), len(outputs))

    @never_in_a_fork
    def sample_rows(self, count: int) -> Sequence[Any]:
        """See the interface."""
        return returned.samples(self._model.sample_rows(count), count)

    @never_in_a_fork
    def precisions(self, device: str) -> Sequence[str]:
        """See the interface."""
        return returned.precisions(self._model.precisions(device))

    def runtime(self) -> tuple[str, str]:
        """See the interface; code of one's own is run by none of the libraries that are meant, whatever it says."""
        return "", ""

    def device_busy_s(self) -> float | None:
        """See the interface."""
        return self._counted("device_busy_s", lambda: returned.seconds(self._model.device_busy_s()), None)

    @never_in_a_fork
    def effort(self, request: Request) -> Effort | None:
        """See the interface."""
        return self._model.effort(request)

    @never_in_a_fork
    def decodes(self, request: Request) -> bool:
        """See the interface."""
        return bool(self._model.decodes(request))

    @never_in_a_fork
    def _counted(self, method: str, count: Callable[[], T], otherwise: T) -> T:
        """Ask for a count; what only metrics show must end neither a batch nor a scrape."""
        try:
            return count()
        except BaseException as error:
            if method not in self._miscounts:
                self._miscounts.add(method)
                log.error("%s() does not count, so nothing is counted: %s", method, described(error))
            return otherwise
