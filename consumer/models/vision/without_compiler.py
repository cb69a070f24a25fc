"""torchvision and timm without torch's compiler: it takes half of their import, 2 s of processor time, and is not used.

Neither needs more of it at import than a question whether something could be compiled, and a mark on functions that are
not to be. Both are answered here meanwhile; code that compiles later finds the real one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

_COMPILER: Final = "torch._dynamo"
_UTILS: Final = "torch._dynamo.utils"


@contextmanager
def without_compiler() -> Iterator[None]:
    """Import torchvision and timm within this; for the thread that imports torch."""
    import torch.compiler

    if _COMPILER in sys.modules:
        yield
        return
    stand_in, disable = _StandIn(_UTILS), torch.compiler.disable
    sys.modules[_UTILS] = stand_in
    torch.compiler.disable = _left_alone
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(_UTILS) is stand_in:
            del sys.modules[_UTILS]


class _StandIn(ModuleType):
    """In the place of ``torch._dynamo.utils``; what it does not know, it takes from there."""

    @staticmethod
    def is_compile_supported(device_type: Any) -> Any:
        """Ask the real module for anything else."""
        return importlib.import_module(_UTILS).is_compile_supported(device_type)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(_UTILS) is self:
            del sys.modules[_UTILS]
        return getattr(importlib.import_module(_UTILS), name)


def _left_alone(fn: Any = None, *_: Any, **__: Any) -> Any:
    """Mark nothing: a function that is never compiled needs no mark."""
    if fn is None:
        unmarked: Callable[[Any], Any] = lambda function: function  # noqa: E731
        return unmarked
    return fn
