"""An ONNX file that takes and gives tensors, of any number, datatype and size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from consumer.models.base import RAW, Description, Model, Result
from consumer.models.own import returned
from consumer.models.own.inputs import arrays, numpy_type
from consumer.runtimes.exported.file_session import FileSession
from consumer.runtimes.oom_splitting import OomSplitting
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import MODEL_ERROR, UNSUPPORTED_MEDIA_TYPE, RequestError, invalid

from .probe import shapes, stack, stacked
from .sample_rows import Row

if TYPE_CHECKING:
    from .opener import Opener


class OnnxTensors(Model):
    """A row holds one value per input, an output one per output, both in the file's order.

    Rows of different sizes never share a batch, so an answer does not depend on other requests.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._session: FileSession | None = None
        self._samples: list[Row] = []
        self._description = Description((), ())
        self._has_free_sizes = self._has_texts = False
        self._in_parts: OomSplitting[Sequence[Any]] = OomSplitting(self._run_alike, opener.config.max_batch)

    def load(self, device: str, precision: str) -> None:
        """Read and open the file, and try it."""
        file, self._session, probed = self._opener.open(device, precision)
        inputs = tuple(one.spec for one in file.inputs)
        is_plain = len(inputs) == 1 and inputs[0].row_bytes() is not None
        described = Description(inputs, probed.outputs, (RAW,) if is_plain else ())
        self._description = returned.description(described)
        self._samples, self._has_free_sizes = probed.rows, file.has_free_sizes
        self._has_texts = any(spec.datatype == "BYTES" for spec in inputs)

    def describe(self) -> Description:
        """Say what the file says, and what it was seen to give."""
        return self._description

    def preprocess(self, request: Request) -> Sequence[Row]:
        """View typed inputs, or raw bytes where there is one input of fixed size, as rows."""
        specs = self._description.inputs
        if request.body is not None:
            return _rows_of_body(request, specs, self._description.content_types)
        found = arrays(request, specs)
        return list(zip(*(found[spec.name] for spec in specs), strict=True))

    def run(self, rows: Sequence[Row]) -> Sequence[Any]:
        """Run the rows of each size together; an output is a tuple with one value per output."""
        if not self._has_free_sizes:
            return self._in_parts(rows)
        places: dict[Any, list[int]] = {}
        for place, row in enumerate(rows):
            places.setdefault(shapes(row), []).append(place)
        if len(places) == 1:
            return self._in_parts(rows)
        found: list[Any] = [None] * len(rows)
        for group in places.values():
            for place, output in zip(group, self._in_parts([rows[place] for place in group]), strict=True):
                found[place] = output
        return found

    def _run_alike(self, rows: Sequence[Row]) -> Sequence[Any]:
        if self._session is None:
            raise RuntimeError("The model has not been loaded.")
        found = self._session.run(stacked(rows))
        for spec, one in zip(self._description.outputs, found, strict=False):
            if one.shape[:1] != (len(rows),):
                raise ValueError(f"output {spec.name} has the shape {list(one.shape)} for {len(rows)} rows")
        return list(zip(*found, strict=True))

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """Put the outputs of the rows below each other.

        Raises:
            RequestError: they differ in shape, or are not of the shape that the card tells.
        """
        specs = self._description.outputs
        found = zip(specs, zip(*outputs, strict=True), strict=True)
        return Result(outputs=[_tensor(spec, values) for spec, values in found])

    def sample_rows(self, count: int) -> Sequence[Row]:
        """Return the rows that the file was tried with, from the start again where there are too few."""
        times = -(-count // len(self._samples))
        return (self._samples * times)[:count]

    def runtime(self) -> tuple[str, str]:
        """See the interface."""
        return (self._session.runtime if self._session else ""), self._opener.reason

    def working_rows(self) -> int | None:
        """See the interface."""
        return self._in_parts.working_rows

    def padded_rows(self) -> int:
        """See the interface."""
        return self._session.padded_rows if self._session else 0

    def computed_rows(self, rows: int) -> int:
        """See the interface."""
        return self._session.computed_rows(rows) if self._session else rows

    def decodes(self, request: Request) -> bool:
        """Say yes for texts; numbers are only viewed."""
        return self._has_texts

    def close(self) -> None:
        """Let the file go."""
        self._session = None


def _rows_of_body(request: Request, specs: Sequence[TensorSpec], content_types: Sequence[str]) -> list[Row]:
    content_type, body = (request.content_type or "").partition(";")[0].strip().lower(), request.body or b""
    if content_type not in content_types:
        takes = ", ".join((*content_types, "tensors"))
        raise RequestError(UNSUPPORTED_MEDIA_TYPE, f"This model takes {takes}, not {content_type[:80] or 'a body'}.")
    spec = specs[0]
    size = spec.row_bytes() or 0
    if not body or not size or len(body) % size:
        raise invalid(
            f"The body holds {len(body)} bytes; it must hold one or more rows of {size} bytes, {spec.datatype} "
            f"{list(spec.shape)}.",
            "body",
        )
    shape = (len(body) // size, *spec.shape)
    request_of_rows = Request(request.id, request.ttl_ms, inputs=(Tensor(spec.name, spec.datatype, shape, body),))
    return [(row,) for row in arrays(request_of_rows, specs)[spec.name]]


def _tensor(spec: TensorSpec, values: Sequence[Any]) -> Tensor:
    try:
        array = stack(values)
    except ValueError:
        raise _wrong(
            spec, "its rows differ in shape, so they cannot be answered together; send them one by one"
        ) from None
    if len(spec.shape) != array.ndim - 1 or any(
        want not in (-1, have) for want, have in zip(spec.shape, array.shape[1:], strict=True)
    ):
        raise _wrong(spec, f"its row has the shape {list(array.shape[1:])}, not {list(spec.shape)}")
    if spec.datatype == "BYTES":
        return Tensor(spec.name, spec.datatype, array.shape, _packed(array))
    wanted = numpy_type(spec.datatype)
    if array.dtype != wanted:
        raise _wrong(spec, f"it is of {array.dtype}, not {spec.datatype}")
    return Tensor(spec.name, spec.datatype, array.shape, array.tobytes())


def _wrong(spec: TensorSpec, why: str) -> RequestError:
    return RequestError(MODEL_ERROR, f"The model's output {spec.name} cannot be sent: {why}.")


def _packed(array: NDArray[Any]) -> bytes:
    parts = []
    for one in array.ravel().tolist():
        text = one if isinstance(one, bytes) else str(one).encode("utf-8", "replace")
        parts += [len(text).to_bytes(4, "little"), text]
    return b"".join(parts)
