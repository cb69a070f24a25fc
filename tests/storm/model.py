"""The storm's model: answers with a digest and the body, raises or dies when told to, notes what it runs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from consumer.models.base import IMAGES, RAW, Description, Model, Result
from consumer.models.pictures import images
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from tests.helpers import write_models_file
from tests.storm.ledger import Task, answer_to, body_of, nonce_of

FIXED_S, PER_ROW_S = 0.003, 0.0003
INPUTS = (TensorSpec("input", "UINT8", (-1,)),)
OUTPUTS = (TensorSpec("output", "UINT8", (-1,)),)


class Storm(Model):
    """See the module; ``folder`` is where the names of all that runs are noted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._noted = -1

    def describe(self) -> Description:
        """Bytes in, bytes out; pictures are decoded, so that hostile ones can be tried."""
        return Description(INPUTS, OUTPUTS, content_types=(RAW, *IMAGES))

    def load(self, device: str, precision: str) -> None:
        """Open the notes."""
        if self._noted < 0:
            path = self._folder / f"runs-{os.getpid()}-{time.time_ns()}"
            self._noted = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def preprocess(self, request: Request) -> Sequence[Any]:
        """One row per request."""
        if request.content_type in IMAGES:
            return [images.decode(request.body or b"", 256, 224, "bilinear").tobytes()]
        return [request.body or b""]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Do as told, in the time that a small network takes."""
        names = [nonce_of(row) for row in rows]
        os.write(self._noted, "".join(f"{name}\n" for name in names if name).encode())
        tasks = {row.partition(b" ")[0].decode() for row in rows}
        time.sleep(FIXED_S + PER_ROW_S * len(rows))
        if Task.KILL in tasks:
            signal.raise_signal(signal.SIGSEGV)
        if Task.RAISE in tasks:
            raise ZeroDivisionError("as told")
        return [answer_to(row) for row in rows]

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The answer as one row of bytes."""
        return Result(outputs=(Tensor("output", "UINT8", (1, len(outputs[0])), outputs[0]),))

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Harmless rows, without a name."""
        return [body_of(Task.PLAIN, "")] * count

    def decodes(self, request: Request) -> bool:
        """Pictures only."""
        return request.content_type in IMAGES


def create(options: dict[str, Any]) -> Model:
    """Make one; ``folder`` is required."""
    return Storm(Path(options["folder"]))


def models_file(folder: Path, name: str) -> Path:
    """Write a models file with this model under ``name``; its notes go to ``folder``, too."""
    return write_models_file(folder, name, "tests.storm.model:create")
