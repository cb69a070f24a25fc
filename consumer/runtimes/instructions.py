"""Has this processor, or this GPU, instructions for a precision? What it has none for is emulated: right, and slow.

Asked of torch and oneDNN, which compute, and not of the processor alone: ``ONEDNN_MAX_CPU_ISA`` and
``ATEN_CPU_CAPABILITY`` forbid them some of its instructions, and then those are as good as missing. So a processor
without AVX-512 can be tried out on one that has it (``make test SLOW_CPU=1``).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass

_X86 = ("x86_64", "amd64", "i386", "i686")
_NARROW = ("DEFAULT", "NO AVX", "AVX2")
"""What torch's own loops may use where they may not use AVX-512."""
_CEILINGS_BELOW_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ONEDNN_MAX_CPU_ISA that forbid instructions for bf16 (oneDNN, "CPU Dispatcher Control")."""
_LEAST_GPU = {"tf32": (8, 0), "bf16": (8, 0), "fp16": (5, 3)}
"""The compute capability that brings instructions for a precision (CUDA C++ Programming Guide, "Arithmetic
Instructions" and "Technical Specifications per Compute Capability")."""


@dataclass(frozen=True, slots=True)
class Processor:
    """What decides on which numbers a processor computes quickly.

    Attributes:
        machine: the architecture as ``platform.machine`` names it.
        flags: instructions of the processor itself, by torch's names; only those of x86 matter.
        vectors: what torch's own loops use: ``AVX512``, ``AVX2``, ``DEFAULT``, ``SVE256``, …
        onednn: of ``bf16`` and ``fp16``, those that oneDNN has kernels for here; on x86 they may emulate.
        ceiling: ``ONEDNN_MAX_CPU_ISA`` in capitals, empty for none.
    """

    machine: str
    flags: frozenset[str] = frozenset()
    vectors: str = "DEFAULT"
    onednn: frozenset[str] = frozenset()
    ceiling: str = ""

    def has(self, precision: str) -> bool:
        """Say whether there are instructions for ``precision``; fp32 is everywhere."""
        if precision not in ("bf16", "fp16"):
            return True
        if precision not in self.onednn:
            return False
        if precision == "fp16" or self.machine.lower() not in _X86:
            return True
        # With AVX-512 alone oneDNN takes bf16 and computes in fp32.
        if self.ceiling in _CEILINGS_BELOW_BF16:
            return False
        wide = self.vectors not in _NARROW and not self.flags.isdisjoint(("avx512_bf16", "amx_bf16"))
        return wide or "avx_ne_convert" in self.flags

    def __str__(self) -> str:
        """Name what of it measurements depend on."""
        known = [name for name in ("bf16", "fp16") if self.has(name)]
        return " ".join(part for part in (self.vectors, self.ceiling, *known) if part)


def this_processor(environment: Mapping[str, str] = os.environ) -> Processor:
    """Ask torch and oneDNN, as they were started; both read the environment once."""
    import torch

    flags = torch.cpu.get_capabilities()
    ceiling = environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA") or ""
    return Processor(
        machine=platform.machine(),
        flags=frozenset(name for name, is_there in flags.items() if is_there is True),
        vectors=torch.backends.cpu.get_cpu_capability(),
        onednn=frozenset(name for name in ("bf16", "fp16") if _onednn_takes(name)),
        ceiling=ceiling.upper(),
    )


def lacks(device: str, precision: str) -> str:
    """Say in a few words what is missing for ``precision``; empty when nothing is."""
    if device == "cuda":
        import torch

        is_there = torch.cuda.get_device_capability() >= _LEAST_GPU.get(precision, (0, 0))
        return "" if is_there else "this GPU has no instructions for it"
    return "" if this_processor().has(precision) else "this processor has no instructions for it"


def _onednn_takes(precision: str) -> bool:
    import torch

    try:
        return bool(getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported")())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False
