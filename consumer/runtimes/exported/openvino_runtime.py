"""OpenVINO: runs the exported file on the CPU in fp32, in bf16 where the processor has instructions for it, or int8."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.runtimes.base import CannotRun, Job, Pixels
from consumer.runtimes.libraries import missing, said
from consumer.runtimes.session import SessionRunner, for_job

from .onnx_runtime import FILE, OnnxRuntime

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVino:
    """See :class:`consumer.runtimes.base.Runtime`."""

    name = "openvino"
    needs_network = False

    def missing(self, device: str) -> str:
        """See the interface."""
        if device != "cpu":
            return "openvino is used on the CPU only."
        return missing("openvino", "openvino")

    def precisions(self, device: str) -> tuple[str, ...]:
        """See the interface."""
        from consumer.runtimes.instructions import lacks

        # OpenVINO offers bf16 wherever there is AVX-512, and emulates it.
        return ("fp32", "int8") if lacks(device, "bf16") else ("fp32", "bf16", "int8")

    def build(self, job: Job, samples: Sequence[Pixels]) -> None:
        """Export the network, with weights made for bf16 where that is asked for."""
        from .export import for_bf16, to_onnx

        assert job.network is not None
        if job.precision == "int8":
            OnnxRuntime().build(job, samples)
        else:
            to_onnx(job.network, job.folder / FILE, for_bf16 if job.precision == "bf16" else None)

    def open(self, job: Job) -> SessionRunner:
        """Open the file."""
        compiled = compile_file(job.folder / FILE, job.precision, job.threads)
        request = compiled.create_infer_request()

        def infer(batch: Pixels) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = request.infer({0: batch}, share_inputs=True)[0].copy()
            return logits

        return for_job(infer, job)


def compile_file(source: Path | bytes, precision: str, threads: int) -> Any:
    """Compile an ONNX file for the CPU.

    Args:
        source: where it is, or what is in it.

    Raises:
        CannotRun: it is no such file, or holds what this version cannot run.
    """
    config = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # The consumer may be tied to a core by `headrace up`; a second opinion would put all consumers on one.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        core = _library().Core()
        return core.compile_model(core.read_model(source), "CPU", config)
    except Exception as error:  # the library may be broken, too
        raise CannotRun(f"OpenVINO cannot open the file: {said(error)}.") from error


def _library() -> Any:
    """Import OpenVINO without its package ``openvino_telemetry``.

    With that package each import starts a process that tells Google Analytics of it, and leaves a number for this user
    in the home folder, without asking. If that package is missing OpenVINO uses a stub that does nothing, so
    this function makes it look missing.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
