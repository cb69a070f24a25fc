"""The interface between Headrace and a model. Your own model implements :class:`Model`; see ``docs/models.md``.

A request passes through a model in three steps: ``preprocess`` makes rows of it, ``run`` takes the rows of many
requests at once, ``postprocess`` makes the answer of one request from its share of the outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.state.cards import PREDICTIONS, TENSORS, TensorSpec
from shared.wire.messages import Generated, Prediction, Request, Tensor
from shared.wire.outcomes import RequestError

if TYPE_CHECKING:
    from .pictures.decode_cost import Effort

RAW = "application/octet-stream"
ROW = "row"
IMAGES = ("image/jpeg", "image/png", "image/webp")


@dataclass(frozen=True, slots=True)
class Description:
    """What a model takes and gives.

    Attributes:
        inputs, outputs: tensors, shapes without the batch dimension, -1 for any size.
        content_types: bodies that ``preprocess`` understands besides ``inputs``; ``RAW`` means rows of the first input.
        labels: class names of a classifier, else None.
        warnings: sentences that every answer carries, such as that the weights are random.
        unit: what the time of ``run`` grows with, such as ``token``; ``units`` says how many a row has. ``row``: with
            the rows alone.
        most_units: most units of a batch, where its rows alone do not bound its time; None where they do. A request
            with more rides alone.
        pads_rows: a batch is computed as if all of its rows had as many units as the largest, so it is put together of
            rows of about the same size. Only with ``most_units``.
        gives_tensors: of a classifier: ``postprocess`` returns ``outputs`` instead of predictions for a request whose
            ``params`` have ``answer: tensors``. Stock clients of the Open Inference Protocol ask so.
        task: what it does with texts: ``embedding``, ``classification`` or ``reranking``; empty for other models.
        context: most tokens of a text.
        dimensions, pooling, normalize: of a model that makes vectors of texts: how many numbers they have, how they are
            made of those of the tokens, and whether they all have the length 1.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    content_types: tuple[str, ...] = (RAW,)
    labels: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    unit: str = ROW
    gives_tensors: bool = False
    most_units: int | None = None
    pads_rows: bool = False
    task: str = ""
    context: int | None = None
    dimensions: int | None = None
    pooling: str = ""
    normalize: bool | None = None

    def answers(self) -> tuple[str, ...]:
        """Return what the model's answers can hold, as its card says it."""
        if self.labels is None:
            return (TENSORS,)
        return (PREDICTIONS, TENSORS) if self.gives_tensors else (PREDICTIONS,)


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one request: ``predictions`` for a classifier, ``generated`` for a text, ``outputs`` otherwise."""

    predictions: Sequence[Prediction] | None = None
    outputs: Sequence[Tensor] | None = None
    generated: Generated | None = None


class Model(ABC):
    """A model behind the queue. ``load``, ``run`` and ``close`` are called on one thread only, always the same."""

    @abstractmethod
    def describe(self) -> Description:
        """Say what the model takes and gives; called after ``load``."""

    @abstractmethod
    def load(self, device: str, precision: str) -> None:
        """Make the model ready to run.

        Args:
            device: ``cpu`` or ``cuda``.
            precision: ``fp32``, ``tf32``, ``fp16`` or ``bf16``.

        Raises:
            ValueError: the model cannot run so; one sentence that says why and what to do instead.
        """

    @abstractmethod
    def preprocess(self, request: Request) -> Sequence[Any]:
        """Turn a request into rows; called on any thread, several at once.

        Returns:
            One or more rows, each whatever ``run`` takes.

        Raises:
            shared.wire.outcomes.RequestError: the input does not fit (``shared.wire.outcomes.invalid`` makes one).
        """

    @abstractmethod
    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Run the model over the rows of a whole batch.

        Returns:
            One output per row, in order. Anything else fails the batch.
        """

    @abstractmethod
    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """Make the answer to one request from the outputs of its rows.

        One call at a time, on ``run``'s thread or another.
        """

    @abstractmethod
    def sample_rows(self, count: int) -> Sequence[Any]:
        """Return ``count`` valid rows for warming up and for comparing precisions; the same ones every time."""

    def close(self) -> None:  # noqa: B027 - most models have nothing to end
        """End what ``load`` has started: processes, threads, connections. Nothing is called afterwards.

        Called once for each ``load``, one that raised included: when the consumer stops, when another precision is
        loaded in place of this one, and after each precision that was only tried. What it raises is logged.
        """

    def example(self) -> Request | Mapping[str, Any] | str | bytes | None:
        """Return a request that people can copy, in the shortest form that says it; asked after ``load``.

        Returns:
            A mapping from the name of each input to its value (numbers, texts, arrays, nested lists: one row, or
            several in one dimension more), a text for a model whose only input is BYTES, the bytes of a body, or a
            whole request. None: Headrace makes one from a sample row if it can.
        """
        return None

    def precisions(self, device: str) -> Sequence[str]:
        """Say in which precisions the model can run on ``device``: those that ``auto`` tries. Asked before ``load``."""
        return ("fp32",)

    def runtime(self) -> tuple[str, str]:
        """Name the library that runs the model, and say in a sentence why that one; empty for code of its own."""
        return "", ""

    def device_busy_s(self) -> float | None:
        """Return the seconds that the device has computed so far; None where that is the time spent in ``run``."""
        return None

    def working_rows(self) -> int | None:
        """Return how many rows at most run at once since memory ran out; None while it never did."""
        return None

    def padded_rows(self) -> int:
        """Return how many rows were computed for nothing so far, because batches are filled up to a certain size."""
        return 0

    def computed_rows(self, rows: int) -> int:
        """Return how many rows a batch of ``rows`` computes, where batches are filled up to a certain size.

        Requests of lanes of kind ``batch`` come along in the rows that would be computed for nothing. Called on the
        thread of ``run``.
        """
        return rows

    def padded_units(self) -> int:
        """Return how many units were computed for nothing so far, because rows are as long as their batch's longest."""
        return 0

    def units(self, row: Any) -> int:
        """Count the units of one row that ``preprocess`` or ``sample_rows`` made, where the description names a unit.

        What a batch costs is learned per unit: so it is known before a batch runs how long it will. Called on any
        thread, several at once, and for each row: it must be quick.

        Returns:
            A whole number of at least 1.
        """
        return 1

    def effort(self, request: Request) -> Effort | None:
        """Estimate what ``preprocess`` takes for this request, if that may be much; None where it is nothing special.

        Asked on a thread of the pool before ``preprocess``. What is large is done by threads of its own, so that
        others do not wait behind it. Here it is what the header of a picture says.

        Raises:
            shared.wire.outcomes.RequestError: it would be too much, or cannot be.
        """
        if request.body is None or request.content_type not in IMAGES:
            return None
        from .pictures import images

        try:
            return images.effort(request.body)
        except RequestError:
            return None  # this model may take what ours does not

    def decodes(self, request: Request) -> bool:
        """Say whether ``preprocess`` does real work for this request, such as decoding a picture.

        Such requests are preprocessed by a pool of threads, the others at once by the thread that reads the stream.
        """
        return True
