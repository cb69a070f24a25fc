"""Speaking to Redis: clients, links, errors, the functions, the embedded server."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

_SDK: Final = "opentelemetry.sdk.metrics"
_ASKING: Final = "redis.observability.providers"


class _NoMetrics(MetaPathFinder):
    """Tells redis-py that OpenTelemetry's metrics are not installed.

    It imports them where they are, which is a quarter of its own import, for figures that we do not ask it for.
    Everybody else finds them.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing, or refuse."""
        if fullname == _SDK and getattr(getattr(sys.modules.get(_ASKING), "__spec__", None), "_initializing", False):
            raise ModuleNotFoundError(f"{_SDK} is not for {_ASKING}", name=_SDK)
        return None


sys.meta_path.insert(0, _NoMetrics())
