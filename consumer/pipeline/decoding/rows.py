"""From a request to rows of the model, or to the refusal that its sender gets."""

from __future__ import annotations

from consumer.models.base import Model
from consumer.models.loads import load_of, units_of
from consumer.models.model_errors import answer_to
from consumer.pipeline.cancellations import Cancellations
from consumer.pipeline.items import Item, Refusal
from consumer.queue.entry_reader import check, needs_thread
from shared.wire.outcomes import CANCELLED, EXPIRED, RequestError, invalid


class Rows:
    """Asks the model; any thread may call it.

    Args:
        max_rows: most rows of a request.
        cancellations: entries that are not to run.
    """

    def __init__(self, model: Model, max_rows: int, cancellations: Cancellations) -> None:
        self._model, self._max_rows, self._cancellations = model, max_rows, cancellations
        self._units = units_of(model)

    def make(self, item: Item) -> None:
        """Make the rows of ``item``.

        Raises:
            Refusal: the model does not take it, or failed.
        """
        try:
            check(item.request)
            item.rows = self._model.preprocess(item.request)
            count = len(item.rows)
            if not 1 <= count <= self._max_rows:
                raise invalid(f"A request must have 1 to {self._max_rows} rows, not {count}.", "inputs")
            if count > 1 or self._units is not None:  # one row is what an item has anyhow
                item.load = load_of(item.rows, self._units)
        except BaseException as error:
            raise Refusal(item, answer_to(error, item, "Preprocessing")) from None

    def decodes(self, item: Item) -> bool:
        """Say whether making them is real work.

        Raises:
            Refusal: the model failed.
        """
        try:
            is_elsewhere = item.request.at_store is not None
            return is_elsewhere or needs_thread(item.entry) or bool(self._model.decodes(item.request))
        except BaseException as error:
            raise Refusal(item, answer_to(error, item, "Choosing how to preprocess")) from None

    def large_bytes(self, item: Item) -> int:
        """Return what memory making them takes, if others should not wait for it; else 0.

        Raises:
            Refusal: the model does not take it, or failed.
        """
        try:
            effort = self._model.effort(item.request)
            return int(effort.memory_bytes) if effort is not None and effort.is_large else 0
        except BaseException as error:
            raise Refusal(item, answer_to(error, item, "Estimating the effort")) from None

    def check_cancelled(self, item: Item) -> None:
        """Refuse what was cancelled.

        Raises:
            Refusal: it was.
        """
        if self._cancellations and self._cancellations.holds(item.entry.claim):
            raise Refusal(item, RequestError(CANCELLED, "The request was cancelled."))

    def check_due(self, item: Item, now_s: float) -> None:
        """Refuse what was cancelled, and what would come too late.

        Raises:
            Refusal: it was, or it would.
        """
        self.check_cancelled(item)
        if item.deadline_s <= now_s:
            raise Refusal(item, RequestError(EXPIRED, "The deadline passed before the request was decoded."))
