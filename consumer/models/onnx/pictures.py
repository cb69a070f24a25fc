"""An ONNX file that classifies pictures: pictures or raw pixels in, labels with scores out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from consumer.models.vision.classifier import Classifier, Pixels
from consumer.runtimes import labels
from consumer.runtimes.exported.file_session import FileSession
from consumer.runtimes.exported.onnx_file import OnnxFile
from consumer.runtimes.network import Network, checked, declared_labels
from consumer.runtimes.session import ROWS_PER_THREAD, SessionRunner
from consumer.runtimes.spec import ClassifierSpec
from shared.model_config import ModelConfig, Preprocessing
from shared.state.cards import TensorSpec

if TYPE_CHECKING:
    from .opener import Opener

COLOURS = 3
_WANTED = (
    "as an image classifier it needs one input of FP32 or FP16 [n, 3, side, side], or of UINT8 [n, side, side, 3]; "
    "without labels and preprocessing it is served as tensors"
)
_LEAST_SCORE = 1e-30

Floats = NDArray[np.float32]


class OnnxPictures(Classifier):
    """A classifier whose network is a file."""

    def __init__(self, opener: Opener) -> None:
        super().__init__(opener.config, _no_network)
        self._opener = opener
        self._session: FileSession | None = None

    def load(self, device: str, precision: str) -> None:
        """Read and open the file, and try it.

        Raises:
            ValueError: it is no classifier of pictures, or does not fit the table.
        """
        file, session, probed = self._opener.open(device, precision)
        preprocessing = preprocessing_of(file, self._opener.config)
        names = _names(self._opener.config, probed.outputs[0])
        network = scores(file, session, pixels_of(file, preprocessing))
        classes = network(np.zeros((1, preprocessing.crop, preprocessing.crop, COLOURS), np.uint8)).shape[1]
        names = names or labels.numbered(classes)
        if classes != len(names):
            raise ValueError(f"the file gives {classes} classes, but there are {len(names)} labels.")
        at_once = ROWS_PER_THREAD * self._opener.threads
        runner = SessionRunner(network, preprocessing.crop, self._opener.config.max_batch, at_once)
        self._session = session
        self.open(ClassifierSpec(preprocessing, names), runner)

    def precisions(self, device: str) -> Sequence[str]:
        """Say that a file is run as it is written."""
        return ("fp32",)

    def runtime(self) -> tuple[str, str]:
        """See the interface."""
        return (self._session.runtime if self._session else ""), self._opener.reason

    def padded_rows(self) -> int:
        """See the interface."""
        return self._session.padded_rows if self._session else 0

    def computed_rows(self, rows: int) -> int:
        """See the interface."""
        return self._session.computed_rows(rows) if self._session else rows

    def close(self) -> None:
        """Let the file go."""
        self._session = self._runner = None


def _no_network(config: ModelConfig) -> Network:
    raise ValueError("an ONNX file has no network in torch.")


def preprocessing_of(file: OnnxFile, config: ModelConfig) -> Preprocessing:
    """Return the preprocessing, with the file's own side if the table sets none.

    Raises:
        ValueError: the file takes no pictures, or none of that size.
    """
    if len(file.inputs) != 1:
        raise ValueError(f"the file has {len(file.inputs)} inputs; {_WANTED}.")
    spec = file.inputs[0].spec
    sizes = {size for size in _sides(spec) if size != -1}
    if len(sizes) > 1:
        raise ValueError(f"its pictures are not square: {list(spec.shape)}; {_WANTED}.")
    side = sizes.pop() if sizes else None
    preprocessing = config.preprocessing
    if preprocessing is None:
        side = side or Preprocessing().crop
        preprocessing = Preprocessing(resize=side * Preprocessing().resize // Preprocessing().crop, crop=side)
    if side not in (None, preprocessing.crop):
        raise ValueError(f"preprocessing.crop is {preprocessing.crop}, but the file takes pictures of {side} pixels.")
    return checked(preprocessing)


def _sides(spec: TensorSpec) -> tuple[int, int]:
    if len(spec.shape) != COLOURS or spec.datatype not in ("FP32", "FP16", "UINT8"):
        raise ValueError(f"the file takes {spec.datatype} {['n', *spec.shape]}; {_WANTED}.")
    if _is_channels_last(spec):
        return spec.shape[0], spec.shape[1]
    if spec.shape[0] not in (COLOURS, -1):
        raise ValueError(f"the file takes pictures of {spec.shape[0]} colours; {_WANTED}.")
    return spec.shape[1], spec.shape[2]


def _is_channels_last(spec: TensorSpec) -> bool:
    """Say in which order colours are; if the file leaves that open, floats have torch's order."""
    if spec.shape[0] == COLOURS:
        return False
    return spec.shape[2] == COLOURS or spec.datatype == "UINT8"


def _names(config: ModelConfig, output: TensorSpec) -> tuple[str, ...]:
    if not output.datatype.startswith("FP"):
        raise ValueError(f"its first output is of {output.datatype}; a classifier gives logits or scores, of FP32.")
    return declared_labels(config) or ()


def pixels_of(file: OnnxFile, preprocessing: Preprocessing) -> Callable[[Pixels], NDArray[Any]]:
    """Return what makes the file's input of uint8 (n, side, side, 3). Floats are normalised, bytes are not."""
    spec = file.inputs[0].spec
    is_last = _is_channels_last(spec)
    if spec.datatype == "UINT8":
        return (lambda batch: batch) if is_last else (lambda batch: np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
    colours = (COLOURS,) if is_last else (COLOURS, 1, 1)
    std = np.array(preprocessing.std, np.float32).reshape(colours)
    scale = 1 / (255 * std)
    shift = np.array(preprocessing.mean, np.float32).reshape(colours) / std

    def normalised(batch: Pixels) -> NDArray[Any]:
        laid = batch if is_last else batch.transpose(0, 3, 1, 2)
        floats: Floats = np.empty(laid.shape, np.float32)
        np.multiply(laid, scale, out=floats)
        np.subtract(floats, shift, out=floats)
        return floats if spec.datatype == "FP32" else floats.astype(np.float16)

    return normalised


def scores(file: OnnxFile, session: FileSession, made: Callable[[Pixels], NDArray[Any]]) -> Callable[[Pixels], Floats]:
    """Return what makes logits (n, classes) of uint8 (n, side, side, 3)."""

    def infer(batch: Pixels) -> Floats:
        found = session.run([made(batch)])[0]
        if found.ndim < 2 or found.size != found.shape[0] * found.shape[1]:
            raise ValueError(f"the first output has the shape {list(found.shape)}, not (pictures, classes)")
        logits: Floats = found.reshape(found.shape[:2]).astype(np.float32, copy=False)
        # Classifiers answer with the softmax of logits; the logarithm undoes the file's own.
        return np.log(np.maximum(logits, _LEAST_SCORE)) if file.makes_scores else logits

    return infer
