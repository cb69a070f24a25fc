"""In which precisions a language model runs."""

from __future__ import annotations

import torch

from consumer.runtimes.instructions import this_processor

_DATATYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def datatype(device: str, precision: str) -> torch.dtype:
    """Return torch's name for ``precision``.

    Raises:
        ValueError: a language model does not run in it there; one sentence.
    """
    if precision not in _DATATYPES:
        raise ValueError(f"family 'generate' runs in fp32, bf16 and fp16, not in {precision}.")
    if device == "cpu" and precision == "fp16" and not this_processor().has("fp16"):
        raise ValueError("family 'generate' runs in fp16 only where there are instructions for it; this CPU has none.")
    return _DATATYPES[precision]
