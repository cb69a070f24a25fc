"""A model that decodes what it is sent, in a manner of speaking: what begins with ``hang`` takes for ever.

For ever is as long as the file `hold` is in its folder. Everything else is given back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consumer.models.base import Model
from shared.wire.messages import Request
from tests.fault.fragile import POLL_S, Fragile
from tests.helpers import write_models_file


class SlowDecoder(Fragile):
    """Its rows are made by the pool; each begin is noted in ``folder``."""

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Hang as told."""
        body = request.body or b""
        with (self._folder / "decoded").open("a") as noted:
            noted.write(f"{os.getpid()} {body.decode()}\n")
        while body.startswith(b"hang") and self._is_held():
            time.sleep(POLL_S)
        return [body]

    def decodes(self, request: Request) -> bool:
        """All of it."""
        return True


def create(options: dict[str, Any]) -> Model:
    """Make one; ``folder`` is required."""
    return SlowDecoder(Path(options["folder"]))


def models_file(folder: Path, name: str) -> Path:
    """Write a models file with this model under ``name``."""
    return write_models_file(folder, name, "tests.fault.producer_api.slow_decoder:create")
