"""A processor without AVX-512 and bf16, on one that has them: what forbids torch and its libraries to use them.

`make test SLOW_CPU=1` sets the same for the whole suite; on a processor that has neither it changes nothing.
"""

from __future__ import annotations

from typing import Final

FORBID_AVX512: Final = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
