"""The kinds of processors that tables are made for: what counts is which instructions the libraries use. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from consumer.runtimes.instructions import Processor

CEILINGS: Final = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that forbid torch and its libraries some of the processor's instructions."""

AVX2: Final = "AVX2, without AVX-512"


def kind(processor: Processor) -> str:
    """Name the kind, as the documents' headings do."""
    bf16 = processor.has("bf16")
    if processor.vectors.startswith("AVX512"):
        amx = bf16 and "amx_bf16" in processor.flags
        return f"AVX-512, {'with' if bf16 else 'without'} bf16{' and AMX' if amx else ''}"
    if processor.vectors == "AVX2":
        return AVX2
    return f"{processor.machine} ({processor.vectors}){', with bf16' if bf16 else ''}"


def is_narrowed(environment: Mapping[str, str]) -> bool:
    """Say whether instructions are forbidden."""
    return any(environment.get(name) for name in CEILINGS)


def remarks(environment: Mapping[str, str], narrowed: bool) -> list[str]:
    """Say what a table is worth that was made with instructions forbidden; nothing where none are.

    Args:
        narrowed: the libraries that obey no variable were copies that take the processor for another one.
    """
    forbidden = [f"`{name}={environment[name]}`" for name in CEILINGS if environment.get(name)]
    if not forbidden:
        return []
    if narrowed:
        rest = (
            "ONNX Runtime's kernels (MLAS) and OpenVINO's own ask the processor alone and obey no variable; they ran "
            "in copies for which the processor answers as one without AVX-512 (`tests/perf/narrow/`)."
        )
    else:
        rest = (
            "ONNX Runtime's kernels (MLAS) ask the processor alone and obey no variable: its columns are those of the "
            "whole processor, and not of this kind."
        )
    named = " and ".join(forbidden)
    return [f"This processor can do more: {named} forbid torch, oneDNN and parts of OpenVINO to use it. {rest}"]
