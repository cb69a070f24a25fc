"""ONNX files of the user's own, run by ONNX Runtime or OpenVINO: arrays in, arrays out, any datatypes and shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from consumer.runtimes.base import CannotRun
from consumer.runtimes.libraries import is_lack_of_memory, said

from .onnx_runtime import OnnxRuntime, session_options
from .openvino_runtime import OpenVino, compile_file

if TYPE_CHECKING:
    from .onnx_file import OnnxFile

Arrays = Sequence[NDArray[Any]]


class FileSession(Protocol):
    """A file that is open.

    Attributes:
        runtime: name of the library that runs it.
        padded_rows: rows computed for nothing so far, because the file fixes the size of its batches.
    """

    runtime: str
    padded_rows: int

    def computed_rows(self, rows: int) -> int:
        """Return how many rows a batch of ``rows`` computes, which may be filled up."""

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """Return all outputs in the file's order.

        Args:
            inputs: arrays in the file's order; read, never written to.

        Raises:
            MemoryError: there is not enough memory for so many rows.
            ValueError: the runtime refuses these inputs; one sentence.
        """


def open_file(file: OnnxFile, runtime: str, device: str, threads: int) -> FileSession:
    """Open ``file``.

    Args:
        runtime: ``onnxruntime`` or ``openvino``.

    Raises:
        CannotRun: the runtime is missing, or does not take the file; a sentence.
    """
    session: FileSession
    if runtime == OpenVino.name:
        session = _OpenVinoSession(file, device, threads)
    else:
        session = _OnnxRuntimeSession(file, device, threads)
    return session if file.rows is None else FixedBatch(session, file.rows)


class FixedBatch:
    """Runs any number of rows in a file that takes exactly ``size``: in parts, the last one filled up.

    See :class:`FileSession`.
    """

    def __init__(self, session: FileSession, size: int) -> None:
        self._session, self._size = session, size
        self.runtime = session.runtime
        self.padded_rows = 0

    def computed_rows(self, rows: int) -> int:
        """See the interface."""
        return -(-rows // self._size) * self._size

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """See the interface."""
        count = len(inputs[0])
        if count == self._size:
            return self._session.run(inputs)
        parts = [
            self._part([one[start : start + self._size] for one in inputs]) for start in range(0, count, self._size)
        ]
        if len(parts) == 1:
            return parts[0]
        try:
            return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
        except ValueError:
            raise ValueError("the rows' outputs differ in shape, so they cannot be answered together") from None

    def _part(self, inputs: Arrays) -> list[NDArray[Any]]:
        count = len(inputs[0])
        missing = self._size - count
        if not missing:
            return self._session.run(inputs)
        self.padded_rows += missing
        filled = [np.concatenate([one, np.repeat(one[-1:], missing, axis=0)]) for one in inputs]
        return [one[:count] if one.shape[:1] == (self._size,) else one for one in self._session.run(filled)]


class _OnnxRuntimeSession:
    """See :class:`FileSession`."""

    runtime = OnnxRuntime.name
    padded_rows = 0

    def __init__(self, file: OnnxFile, device: str, threads: int) -> None:
        missing = OnnxRuntime().missing("cpu")
        if missing:
            raise CannotRun(missing)
        self._external = dict(file.external)  # the session looks into these bytes for as long as it lives
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        try:
            import onnxruntime

            options = session_options(threads)
            if self._external:
                contents = list(self._external.values())
                options.add_external_initializers_from_files_in_memory(
                    list(self._external), contents, [len(one) for one in contents]
                )
            # Its fallback would print, and open the file a second time.
            self._session = onnxruntime.InferenceSession(file.content, options, providers=[provider], enable_fallback=0)
        except Exception as error:  # the library may be broken, too
            raise CannotRun(f"ONNX Runtime cannot open the file: {said(error)}.") from error
        if self._session.get_providers()[0] != provider:
            raise CannotRun("ONNX Runtime cannot use the GPU here; HEADRACE_DEVICE=cpu does without it.")
        self._inputs = [one.spec.name for one in file.inputs]
        self._outputs = list(file.outputs)

    def computed_rows(self, rows: int) -> int:
        """See the interface."""
        return rows

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """See the interface."""
        try:
            found: list[NDArray[Any]] = self._session.run(self._outputs, dict(zip(self._inputs, inputs, strict=True)))
        except Exception as error:
            raise _told(error) from error
        return found


class _OpenVinoSession:
    """See :class:`FileSession`."""

    runtime = OpenVino.name
    padded_rows = 0

    def __init__(self, file: OnnxFile, device: str, threads: int) -> None:
        missing = OpenVino().missing(device)
        if missing:
            raise CannotRun(missing)
        try:
            compiled = compile_file(file.whole(), "fp32", threads)
        except ValueError as error:
            raise CannotRun(str(error)) from error
        self._names = [one.spec.name for one in file.inputs]
        if len(compiled.inputs) != len(self._names) or len(compiled.outputs) != len(file.outputs):
            raise CannotRun("OpenVINO does not keep the file's inputs and outputs.")
        self._outputs = compiled.outputs
        self._request = compiled.create_infer_request()

    def computed_rows(self, rows: int) -> int:
        """See the interface."""
        return rows

    def run(self, inputs: Arrays) -> list[NDArray[Any]]:
        """See the interface."""
        try:
            found = self._request.infer(dict(zip(self._names, inputs, strict=True)))
        except Exception as error:
            raise _told(error) from error
        return [found[one].copy() for one in self._outputs]


def cuda_missing() -> str:
    """Say in a sentence why ONNX Runtime cannot use a GPU here; empty when it can."""
    if missing := OnnxRuntime().missing("cpu"):
        return missing
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return ""
    return (
        "the device cuda was asked for, but the installed ONNX Runtime has no CUDA provider; install onnxruntime-gpu "
        "in its place, or use HEADRACE_DEVICE=cpu."
    )


def _told(error: Exception) -> Exception:
    if isinstance(error, MemoryError) or is_lack_of_memory(error):
        return MemoryError(said(error))
    return ValueError(said(error))
