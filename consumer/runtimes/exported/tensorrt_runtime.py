"""TensorRT as a part of ONNX Runtime: runs the exported file on an NVIDIA GPU. Not yet run on hardware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.runtimes.base import CannotRun, Job, Pixels
from consumer.runtimes.libraries import missing, said
from consumer.runtimes.session import SessionRunner, tried

from .onnx_runtime import FILE, session_options

PROVIDER = "TensorrtExecutionProvider"


class TensorRt:
    """See :class:`consumer.runtimes.base.Runtime`."""

    name = "tensorrt"
    needs_network = False

    def missing(self, device: str) -> str:
        """See the interface."""
        if device != "cuda":
            return "tensorrt needs an NVIDIA GPU."
        why = missing("onnxruntime", "consumer")
        if why:
            return why
        import onnxruntime

        if PROVIDER in onnxruntime.get_available_providers():
            return ""
        return "TensorRT is not installed: it comes with onnxruntime-gpu, in place of onnxruntime."

    def precisions(self, device: str) -> tuple[str, ...]:
        """See the interface."""
        return ("fp16", "fp32")

    def build(self, job: Job, samples: Sequence[Pixels]) -> None:
        """Export the network; TensorRT chooses among its kernels when the file is opened."""
        from .export import to_onnx

        assert job.network is not None
        to_onnx(job.network, job.folder / FILE)

    def open(self, job: Job) -> SessionRunner:
        """Open the file, and have an engine made for batches up to the largest."""
        try:
            import onnxruntime

            session = onnxruntime.InferenceSession(
                str(job.folder / FILE), session_options(job.threads), providers=[(PROVIDER, _options(job))]
            )
        except Exception as error:
            raise CannotRun(f"TensorRT cannot open the file: {said(error)}.") from error
        if session.get_providers()[0] != PROVIDER:
            raise CannotRun("TensorRT cannot be used here: ONNX Runtime would run the file on the CPU.")
        name = session.get_inputs()[0].name

        def infer(batch: Pixels) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = session.run(None, {name: batch})[0]
            return logits

        return tried(SessionRunner(infer, job.side, job.max_batch), job.side)


def _options(job: Job) -> dict[str, Any]:
    def shape(rows: int) -> str:
        return f"input:{rows}x{job.side}x{job.side}x3"

    return {
        "trt_fp16_enable": job.precision == "fp16",
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(job.max_batch),
        "trt_profile_max_shapes": shape(job.max_batch),
    }
