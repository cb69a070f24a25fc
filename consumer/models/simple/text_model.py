"""A model that takes texts: you write what it makes of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from consumer.models.base import Description, Model, Result
from consumer.models.own.inputs import arrays
from shared.state.cards import TensorSpec
from shared.wire.messages import Request
from shared.wire.outcomes import UNSUPPORTED_MEDIA_TYPE, RequestError, invalid

from .values import answer, check, rows_of

PLAIN = "text/plain"
_TEXT = (TensorSpec("text", "BYTES", ()),)


class TextModel(Model):
    """You write ``load`` and :meth:`compute`; a request is a text, or an input ``text`` with many.

    Attributes:
        labels: of a classifier: ``compute`` returns one score for each, and answers are the likeliest classes.
        size: numbers of one output where there are no labels; -1 for any.
    """

    labels: ClassVar[tuple[str, ...] | None] = None
    size: ClassVar[int] = -1

    @abstractmethod
    def compute(self, texts: Sequence[str]) -> Any:
        """Compute the texts of a whole batch.

        Returns:
            An array or a tensor of torch with a row for each text.
        """

    def describe(self) -> Description:
        """See the interface."""
        name, size = ("vector", self.size) if self.labels is None else ("scores", len(self.labels))
        return Description(_TEXT, (TensorSpec(name, "FP32", (size,)),), content_types=(PLAIN,), labels=self.labels)

    def preprocess(self, request: Request) -> Sequence[str]:
        """See the interface."""
        check(request, self.labels)
        if request.inputs is not None:
            texts: list[str] = arrays(request, _TEXT)["text"].tolist()
            return texts
        kind = (request.content_type or "").partition(";")[0].strip().lower()
        if kind != PLAIN:
            told = f"This model takes {PLAIN} or an input text, not {kind[:80] or 'a nameless body'}."
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, told)
        try:
            return [(request.body or b"").decode()]
        except UnicodeDecodeError as error:
            raise invalid(f"The text is not UTF-8: byte {error.start} is wrong.", "body") from None

    def run(self, rows: Sequence[str]) -> Sequence[Any]:
        """See the interface."""
        return list(rows_of(self.compute(list(rows)), len(rows), "compute"))

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """See the interface."""
        return answer(outputs, self.labels, request)

    def sample_rows(self, count: int) -> Sequence[str]:
        """Return sentences; override it where yours must look otherwise."""
        return [f"This is sentence {number}." for number in range(count)]

    def example(self) -> str:
        """Return a text."""
        return "This is a sentence."

    def decodes(self, request: Request) -> bool:
        """Say no: texts are only looked at."""
        return False
