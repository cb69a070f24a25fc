"""A model that takes and gives tensors: you write what computes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from consumer.models.base import Description, Model, Result
from consumer.models.own.inputs import arrays, numpy_type
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor

from .values import answer, check, named, rows_of

Row = tuple[NDArray[Any], ...]

_ANY_SIZE = 8
"""What -1 in a shape is in rows that are made up."""


class TensorModel(Model):
    """You say what goes in and out, and write ``load`` and :meth:`compute`.

    Attributes:
        inputs, outputs: datatype and shape of each tensor by its name, without the dimension of rows; -1 for any size.
            Without ``outputs``, one named ``output`` of numbers of any shape.
        labels: of a classifier: ``compute`` returns one score for each, and answers are the likeliest classes.
    """

    inputs: ClassVar[Mapping[str, tuple[str, tuple[int, ...]]]]
    outputs: ClassVar[Mapping[str, tuple[str, tuple[int, ...]]]] = {"output": ("FP32", (-1,))}
    labels: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def compute(self, **inputs: NDArray[Any]) -> Any:
        """Compute the rows of a whole batch.

        Args:
            inputs: an array of numpy for each input, shape (n, \\*shape); texts are arrays of ``str``. Read-only.

        Returns:
            An array or a tensor of torch with n rows; a mapping from names to them where there are several outputs.
        """

    def describe(self) -> Description:
        """See the interface."""
        if self.labels is not None:
            outputs: tuple[TensorSpec, ...] = (TensorSpec("scores", "FP32", (len(self.labels),)),)
        else:
            outputs = tuple(TensorSpec(name, *spec) for name, spec in self.outputs.items())
        return Description(self._specs(), outputs, content_types=(), labels=self.labels)

    def preprocess(self, request: Request) -> Sequence[Row]:
        """See the interface."""
        check(request, self.labels)
        found = arrays(request, self._specs())
        return list(zip(*(found[name] for name in self.inputs), strict=True))

    def run(self, rows: Sequence[Row]) -> Sequence[Any]:
        """Compute rows of the same shape together."""
        outputs: list[Any] = [None] * len(rows)
        places: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(tuple(np.shape(part) for part in row), []).append(place)
        for alike in places.values():
            for place, output in zip(alike, self._computed([rows[place] for place in alike]), strict=True):
                outputs[place] = output
        return outputs

    def _computed(self, rows: Sequence[Row]) -> Sequence[Any]:
        stacked = {name: np.stack([row[at] for row in rows]) for at, name in enumerate(self.inputs)}
        value = self.compute(**stacked)
        if self.labels is not None:
            return list(rows_of(value, len(rows), "compute"))
        specs = self.describe().outputs
        found = named(value, specs)
        columns = [rows_of(found[spec.name], len(rows), f"compute ({spec.name})") for spec in specs]
        return list(zip(*columns, strict=True))

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """See the interface."""
        if self.labels is not None:
            return answer(outputs, self.labels, request)
        return Result(
            outputs=[_tensor(spec, [row[at] for row in outputs]) for at, spec in enumerate(self.describe().outputs)]
        )

    def sample_rows(self, count: int) -> Sequence[Row]:
        """Return rows made from a seed; override it where yours must look otherwise."""
        random = np.random.default_rng(0)
        return [tuple(_sample(spec, random) for spec in self._specs()) for _ in range(count)]

    def decodes(self, request: Request) -> bool:
        """Say no: tensors are only looked at."""
        return False

    def _specs(self) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name, *spec) for name, spec in self.inputs.items())


def _tensor(spec: TensorSpec, rows: Sequence[Any]) -> Tensor:
    if spec.datatype == "BYTES":
        texts = [str(text).encode() for row in rows for text in np.asarray(row, dtype=object).reshape(-1)]
        data = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        return Tensor(spec.name, "BYTES", (len(rows), *np.shape(rows[0])), data)
    values = np.stack(rows).astype(numpy_type(spec.datatype), copy=False)
    return Tensor(spec.name, spec.datatype, values.shape, values.tobytes())


def _sample(spec: TensorSpec, random: np.random.Generator) -> NDArray[Any]:
    shape = tuple(_ANY_SIZE if size == -1 else size for size in spec.shape)
    if spec.datatype == "BYTES":
        return np.full(shape, "text", dtype=object)
    if spec.datatype.startswith("FP"):
        return random.random(shape).astype(numpy_type(spec.datatype))
    return random.integers(0, 2, shape).astype(numpy_type(spec.datatype))
