"""A model that does what its input says: ``kill`` ends the process, ``raise`` raises.

While the file `hold` is in its folder, ``dawdle`` waits when its rows are made, ``hold`` and what begins so waits in
``run``, and ``linger`` after it was computed and before its reply is committed. ``grip-2`` keeps the interpreter's lock
for two seconds. Everything else is given back, up to a thousand bytes of it. Spaces behind a word make it longer only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from tests.helpers import write_models_file

POLL_S = 0.005
MOST_BYTES = 1000
INPUTS = (TensorSpec("input", "UINT8", (-1,)),)
OUTPUTS = (TensorSpec("output", "UINT8", (-1,)),)


class Fragile(Model):
    """See the module; every batch is noted in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> Description:
        """Bytes in, bytes out."""
        return Description(INPUTS, OUTPUTS)

    def load(self, device: str, precision: str) -> None:
        """Do nothing."""

    def preprocess(self, request: Request) -> Sequence[Any]:
        """One row per request."""
        while request.body == b"dawdle" and self._is_held():
            time.sleep(POLL_S)
        return [(request.body or b"")[:MOST_BYTES].rstrip(b" ")]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Misbehave as told. Every batch is noted, for the test to read."""
        with (self._folder / f"batches-{os.getpid()}").open("a") as noted:
            noted.write(" ".join(row.decode() for row in rows) + "\n")
        if b"kill" in rows:
            signal.raise_signal(signal.SIGSEGV)  # on this thread, so that it does not go on
        if b"raise" in rows:
            raise ZeroDivisionError("as told")
        while any(row.startswith(b"hold") for row in rows) and self._is_held():
            time.sleep(POLL_S)
        for row in rows:
            if row.startswith(b"grip-"):
                ctypes.PyDLL(None).sleep(int(row[5:]))  # unlike CDLL, this keeps the lock
        return rows

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The bytes again."""
        while outputs[0] == b"linger" and self._is_held():
            (self._folder / "lingers").touch()
            time.sleep(POLL_S)
        return Result(outputs=(Tensor("output", "UINT8", (1, len(outputs[0])), outputs[0]),))

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Harmless rows."""
        return [b"sample"] * count

    def decodes(self, request: Request) -> bool:
        """Nothing is decoded."""
        return False

    def _is_held(self) -> bool:
        return (self._folder / "hold").exists()


def create(options: dict[str, Any]) -> Model:
    """Make one; ``folder`` is required."""
    return Fragile(Path(options["folder"]))


def models_file(folder: Path, name: str) -> Path:
    """Write a models file with this model under ``name``."""
    return write_models_file(folder, name, "tests.fault.fragile:create")
