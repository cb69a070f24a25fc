"""ONNX Runtime: runs the exported file on the CPU in fp32, or quantised to int8."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import CannotRun, Job, Pixels
from .session import SessionRunner

FILE = "model.onnx"


class OnnxRuntime:
    """See :class:`consumer.runtimes.base.Runtime`."""

    name = "onnxruntime"
    needs_network = False

    def missing(self, device: str) -> str:
        """See the interface."""
        if device != "cpu":
            return "onnxruntime is used on the CPU only."
        if importlib.util.find_spec("onnxruntime") is None:
            return "onnxruntime is not installed; the dependency group `consumer` brings it."
        return ""

    def precisions(self, device: str) -> tuple[str, ...]:
        """See the interface."""
        return ("fp32", "int8")

    def build(self, job: Job, samples: Sequence[Pixels]) -> None:
        """Export the network; for int8 quantise what was exported."""
        from .export import to_onnx
        from .int8 import quantise

        assert job.network is not None
        if job.precision == "fp32":
            to_onnx(job.network, job.folder / FILE)
            return
        plain = job.folder / "plain.onnx"
        to_onnx(job.network, plain)
        quantise(plain, job.folder / FILE, samples)
        plain.unlink()

    def open(self, job: Job) -> SessionRunner:
        """Open the file."""
        session = open_session(job.folder / FILE, job.threads)
        name = session.get_inputs()[0].name

        def infer(batch: Pixels) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = session.run(None, {name: batch})[0]
            return logits

        return SessionRunner(infer, job.side, job.max_batch)


def open_session(path: Path, threads: int) -> Any:
    """Open an ONNX file on the CPU.

    Raises:
        CannotRun: it is no such file, or holds what this version cannot run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait for work without sleeping would take the processor time that Redis and the front end need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CannotRun(f"ONNX Runtime cannot open the file: {_first_line(error)}.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300].rstrip(".") or type(error).__name__
