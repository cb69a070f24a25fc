"""A client of Headrace: over REST, with or without asyncio, and straight onto the queue. docs/client.md has examples.

``Client`` and ``AsyncClient`` need ``pip install 'headrace[client]'``; ``Stream`` needs nothing besides the wheel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.wire.messages import Prediction, Tensor

from .answers import Answer, Timing
from .async_client import AsyncClient
from .attempts import Retries
from .client import Client
from .errors import HeadraceError
from .later import Later
from .models import ModelSummary

if TYPE_CHECKING:
    from .stream import Stream

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "HeadraceError",
    "Later",
    "ModelSummary",
    "Prediction",
    "Retries",
    "Stream",
    "Tensor",
    "Timing",
]


def __getattr__(name: str) -> Any:
    """Import ``Stream`` when it is first used: it comes with a client of Redis, which programs over HTTP do without."""
    if name != "Stream":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .stream import Stream

    return Stream
