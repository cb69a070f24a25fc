"""A model that notes when each batch ran, and of whom; 20 ms a batch and 10 ms a row, 8 rows at most."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor

Row = tuple[bytes, int]


class Noting(Model):
    """The body says the name of a request; ``NAME-N`` is one of N rows."""

    def __init__(self, folder: Path, batch_ms: float, row_ms: float, decodes: bool) -> None:
        self._file = folder / f"runs-{os.getpid()}"
        self._batch_ms, self._row_ms, self._decodes = batch_ms, row_ms, decodes

    def describe(self) -> Description:
        """Bytes in, a number out."""
        return Description((TensorSpec("input", "UINT8", (-1,)),), (TensorSpec("output", "UINT8", (1,)),))

    def load(self, device: str, precision: str) -> None:
        """Do nothing."""

    def preprocess(self, request: Request) -> Sequence[Row]:
        """As many rows as the body says."""
        name, _, count = (request.body or b"").partition(b"-")
        return [(name, number) for number in range(int(count or b"1"))]

    def run(self, rows: Sequence[Row]) -> Sequence[int]:
        """Sleep, and note who ran."""
        names = sorted({name.decode() for name, _ in rows})
        if names != ["sample"]:
            with self._file.open("a") as noted:
                noted.write(f"{len(rows)} {' '.join(names)}\n")
        time.sleep((self._batch_ms + self._row_ms * len(rows)) / 1000)
        return [number for _, number in rows]

    def postprocess(self, outputs: Sequence[int], request: Request) -> Result:
        """All numbers."""
        return Result(outputs=(Tensor("output", "UINT8", (len(outputs), 1), bytes(outputs)),))

    def sample_rows(self, count: int) -> Sequence[Row]:
        """Rows that are not noted."""
        return [(b"sample", 0)] * count

    def decodes(self, request: Request) -> bool:
        """As it was made."""
        return self._decodes


def create(options: Mapping[str, Any]) -> Model:
    """Make one."""
    numbers = float(options.get("batch_ms", 20)), float(options.get("row_ms", 10))
    return Noting(Path(options["folder"]), *numbers, bool(options.get("decodes", False)))


def models_file(folder: Path, *names: str, **options: float | bool) -> Path:
    """Write a models file with this model under these names."""
    path = folder / "models.toml"
    more = "".join(f", {name} = {str(value).lower()}" for name, value in options.items())
    path.write_text(
        "".join(
            f'[models.{name}]\nfamily = "python"\nentry = "tests.e2e.gaps.paced:create"\n'
            f'options = {{ folder = "{folder}"{more} }}\n'
            for name in names
        )
    )
    return path
