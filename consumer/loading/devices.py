"""CPU or GPU?"""

from __future__ import annotations

import os
import sys

from consumer.models.families import find
from shared.process.machine import this_machine


def pick_device(setting: str, family: str) -> str:
    """Choose ``cpu`` or ``cuda``. torch is imported only when the machine has a GPU that torch might use for it."""
    if setting != "auto":
        return setting
    library = find(family).library
    if library == "onnxruntime":
        return _of_onnx()
    if "torch" not in sys.modules and not (library == "torch" and this_machine(os.environ).gpus):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _of_onnx() -> str:
    from consumer.runtimes.exported.file_session import cuda_missing

    return "cuda" if this_machine(os.environ).gpus and not cuda_missing() else "cpu"
