"""ONNX Runtime: runs the exported file on the CPU in fp32, or quantised to int8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.runtimes.base import CannotRun, Job, Pixels
from consumer.runtimes.libraries import missing, said
from consumer.runtimes.session import SessionRunner, for_job

FILE = "model.onnx"
NO_LOG = 4
_REQUANTISES = "WeightBiasQuantization"
"""An optimisation that quantises the layers which were left in fp32 among quantised ones, coarsely."""


class OnnxRuntime:
    """See :class:`consumer.runtimes.base.Runtime`."""

    name = "onnxruntime"
    needs_network = False

    def missing(self, device: str) -> str:
        """See the interface."""
        if device != "cpu":
            return "onnxruntime is used on the CPU only."
        return missing("onnxruntime", "consumer")

    def precisions(self, device: str) -> tuple[str, ...]:
        """See the interface."""
        return ("fp32", "int8")

    def build(self, job: Job, samples: Sequence[Pixels]) -> None:
        """Export the network; for int8 quantise what was exported."""
        from .export import to_onnx
        from .int8 import for_int8, quantise

        assert job.network is not None
        if job.precision == "fp32":
            to_onnx(job.network, job.folder / FILE)
            return
        plain = job.folder / "plain.onnx"
        to_onnx(job.network, plain, for_int8(samples))
        quantise(plain, job.folder / FILE, samples)
        plain.unlink()

    def open(self, job: Job) -> SessionRunner:
        """Open the file."""
        session = open_session(job.folder / FILE, job.threads)
        name = session.get_inputs()[0].name

        def infer(batch: Pixels) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = session.run(None, {name: batch})[0]
            return logits

        return for_job(infer, job)


def open_session(path: Path, threads: int) -> Any:
    """Open an ONNX file on the CPU.

    Raises:
        CannotRun: it is no such file, or holds what this version cannot run.
    """
    try:
        import onnxruntime

        return onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # the library may be broken, too
        raise CannotRun(f"ONNX Runtime cannot open the file: {said(error)}.") from error


def session_options(threads: int) -> Any:
    """Return how every file is opened."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = NO_LOG  # what goes wrong is raised, too
    # A plan of the memory for each size of batch takes a fifth more of it and saves no time.
    options.enable_mem_pattern = False
    # Threads that wait for work without sleeping would take the processor time that Redis and the front end need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("optimization.disable_specified_optimizers", _REQUANTISES)
    return options
