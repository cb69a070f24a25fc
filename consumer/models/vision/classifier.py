"""Image classifiers: pictures or raw pixels in, labels with scores out.

``preprocess`` and ``postprocess`` use Pillow and numpy only and may run on any thread. What runs the network comes from
``consumer/runtimes``; torch is imported only where that needs it, or where the network itself is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from consumer.models import ranking
from consumer.models.base import IMAGES, RAW, Description, Model, Result
from consumer.models.pictures import images, samples
from consumer.runtimes.spec import ClassifierSpec
from shared.model_config import ModelConfig
from shared.state.cards import ANSWER, TENSORS, TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import MODEL_ERROR, UNSUPPORTED_MEDIA_TYPE, RequestError, invalid

if TYPE_CHECKING:
    from consumer.models.pictures.decode_cost import Effort
    from consumer.runtimes.base import Runner
    from consumer.runtimes.network import Network
    from consumer.runtimes.row_ring import RowRing

INPUT = "input"
OUTPUT = "logits"

Pixels = NDArray[np.uint8]


class Classifier(Model):
    """A classifier; a row is a uint8 array of shape (crop, crop, 3), an output a float32 array of logits."""

    def __init__(self, config: ModelConfig, build_network: Callable[[ModelConfig], Network]) -> None:
        self._config = config
        self._build_network = build_network
        self._spec: ClassifierSpec | None = None
        self._runner: Runner | None = None
        self._photographs: list[Pixels] = []
        self._ring: RowRing | None = None

    def load(self, device: str, precision: str) -> None:
        """Read the weights and run them in torch on ``device`` in ``precision``."""
        from consumer.runtimes.pytorch import torch_runner

        torch_runner.check(device, precision)
        network = self.network()
        self.open(network.spec, torch_runner.make(network, device, precision, self._config.max_batch))

    def network(self) -> Network:
        """Build the network in torch and read its weights.

        Raises:
            ValueError: it cannot be built, or the weights do not fit.
        """
        return self._build_network(self._config)

    def photographs(self, spec: ClassifierSpec) -> list[Pixels]:
        """Return the pictures of the table's ``samples``.

        Raises:
            ValueError: there are none, or one cannot be decoded.
        """
        if self._config.samples is None:
            return []
        return images.read_folder(Path(self._config.samples), spec.preprocessing)

    def open(self, spec: ClassifierSpec, runner: Runner) -> None:
        """Serve what ``runner`` runs; no torch is needed for that.

        Raises:
            ValueError: the table's samples cannot be read.
        """
        self._photographs = self.photographs(spec)
        self._spec, self._runner, self._ring = spec, runner, runner.ring

    def precisions(self, device: str) -> Sequence[str]:
        """Say what torch has on ``device``."""
        from consumer.runtimes.pytorch import torch_runner

        return torch_runner.PRECISIONS[device]

    def describe(self) -> Description:
        """Describe the loaded model: pixels in, logits out, content types of pictures and of raw pixels."""
        spec = self._loaded()
        return Description(
            inputs=(TensorSpec(INPUT, "UINT8", self._row_shape()),),
            outputs=(TensorSpec(OUTPUT, "FP32", (len(spec.labels),)),),
            content_types=(*IMAGES, RAW),
            labels=spec.labels,
            warnings=spec.warnings,
            gives_tensors=True,
        )

    def preprocess(self, request: Request) -> Sequence[Pixels]:
        """Decode a picture, or view raw pixels as rows without copying them.

        For a GPU the rows are then laid side by side in pinned memory, as far as there is room.
        """
        rows, ring = self._rows(request), self._ring
        return rows if ring is None else [ring.place(row) for row in rows]

    def _rows(self, request: Request) -> Sequence[Pixels]:
        self._top_k(request)
        shape = self._row_shape()
        if request.inputs is not None:
            return _rows_of_input(request, shape)
        content_type = _content_type(request)
        body = request.body or b""
        if content_type in IMAGES:
            preprocessing = self._loaded().preprocessing
            return (images.decode(body, preprocessing.resize, preprocessing.crop, preprocessing.interpolation),)
        if content_type == RAW:
            return _rows_of_bytes(body, shape)
        raise RequestError(
            UNSUPPORTED_MEDIA_TYPE,
            f"This model takes {', '.join((*IMAGES, RAW))} or tensors, not {content_type[:80] or 'a nameless body'}.",
        )

    def run(self, rows: Sequence[Pixels]) -> Sequence[Any]:
        """Return the logits of ``rows``: float32, shape (n, classes)."""
        if self._runner is None:
            raise RuntimeError("The model has not been loaded.")
        logits: Sequence[Any] = self._runner.run(rows)  # type: ignore[assignment]
        return logits

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """Turn logits into the ``top_k`` likeliest classes of each row, best first; or return them, if asked for.

        Raises:
            RequestError: an output is not finite.
        """
        logits = np.asarray(outputs, dtype=np.float32)
        if not np.isfinite(logits).all():
            raise RequestError(MODEL_ERROR, "The model's output for this input is not finite.")
        if request.params.get(ANSWER) == TENSORS:
            return Result(outputs=(Tensor(OUTPUT, "FP32", logits.shape, logits.astype("<f4", copy=False).tobytes()),))
        ranked = ranking.best(logits, self._top_k(request))
        return Result(predictions=ranking.predictions(ranking.softmax(logits), self._loaded().labels, ranked))

    def sample_rows(self, count: int) -> Sequence[Pixels]:
        """Return ``count`` pictures: those of the table's ``samples``, and then pictures made from a seed."""
        side = self._loaded().preprocessing.crop
        own = self._photographs[:count]
        return [*own, *samples.pictures(count - len(own), side, side)]

    def device_busy_s(self) -> float | None:
        """Return the time between events of a GPU's own clock; None on a CPU."""
        return None if self._runner is None else self._runner.busy_s

    def working_rows(self) -> int | None:
        """See the interface."""
        return None if self._runner is None else self._runner.working_rows

    def padded_rows(self) -> int:
        """See the interface."""
        return 0 if self._runner is None else self._runner.padded_rows

    def computed_rows(self, rows: int) -> int:
        """See the interface."""
        return rows if self._runner is None else self._runner.computed_rows(rows)

    def effort(self, request: Request) -> Effort | None:
        """Return what the header of a picture says."""
        if request.inputs is not None or _content_type(request) not in IMAGES:
            return None
        preprocessing = self._loaded().preprocessing
        resize = None if preprocessing.interpolation == "nearest" else preprocessing.resize
        return images.effort(request.body or b"", resize)

    def decodes(self, request: Request) -> bool:
        """Say yes for pictures; raw pixels are only viewed."""
        return request.inputs is None and request.content_type != RAW

    def _loaded(self) -> ClassifierSpec:
        if self._spec is None:
            raise RuntimeError("The model has not been loaded.")
        return self._spec

    def _row_shape(self) -> tuple[int, int, int]:
        side = self._loaded().preprocessing.crop
        return (side, side, 3)

    def _top_k(self, request: Request) -> int:
        return ranking.top_k(request, len(self._loaded().labels))


def _content_type(request: Request) -> str:
    return (request.content_type or "").partition(";")[0].strip().lower()


def _rows_of_bytes(body: bytes, shape: tuple[int, int, int]) -> Sequence[Pixels]:
    size = shape[0] * shape[1] * shape[2]
    if not body or len(body) % size:
        raise invalid(
            f"The body holds {len(body)} bytes; it must hold one or more rows of {size} bytes, "
            f"UINT8 {list(shape)} (height, width, RGB).",
            "body",
        )
    return list(np.frombuffer(body, np.uint8).reshape(-1, *shape))


def _rows_of_input(request: Request, shape: tuple[int, int, int]) -> Sequence[Pixels]:
    inputs = request.inputs or ()
    if len(inputs) != 1:
        raise invalid(f"This model takes one input, not {len(inputs)}.", "inputs")
    tensor = inputs[0]
    if tensor.name != INPUT:
        raise invalid(f"The input's name must be {INPUT!r}, not {tensor.name[:80]!r}.", "inputs[0].name")
    if tensor.datatype != "UINT8":
        raise invalid(f"The input's datatype must be UINT8, not {tensor.datatype[:16]}.", "inputs[0].datatype")
    if tensor.shape[-3:] != shape or len(tensor.shape) > 4 or 0 in tensor.shape:
        raise invalid(
            f"The input's shape must be {list(shape)}, or [rows, {shape[0]}, {shape[1]}, {shape[2]}] with at least one "
            f"row, not {list(tensor.shape)}.",
            "inputs[0].shape",
        )
    return list(np.frombuffer(tensor.data, np.uint8).reshape(-1, *shape))
