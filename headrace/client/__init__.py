"""A client of Headrace: over REST, with or without asyncio, and straight onto the queue. docs/client.md has examples.

``Client`` and ``AsyncClient`` need ``pip install 'headrace[client]'``; ``Stream`` needs nothing besides the wheel.
"""

from __future__ import annotations

from shared.wire.messages import Prediction, Tensor

from .answers import Answer, Timing
from .async_client import AsyncClient
from .attempts import Retries
from .client import Client
from .errors import HeadraceError
from .later import Later
from .models import ModelSummary
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
