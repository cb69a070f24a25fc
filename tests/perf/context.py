"""What every section is given, and what it gives back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from tests.children import ROOT
from tests.perf.load import ECHO_BODY, Generator, Payload
from tests.perf.report.figures import Chart, Figure, Table

T = TypeVar("T")

PHOTOS: Final = tuple(ROOT / "examples" / "photos" / name for name in ("cat.jpg", "coffee.jpg", "rocket.jpg"))
PIXELS: Final = 224 * 224 * 3


class Skipped(Exception):
    """This section cannot be measured here; one sentence."""


@dataclass(slots=True)
class Found:
    """What a section found; see figures.Section."""

    figures: list[Figure] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every section is given. `settings` are the stacks', `folder` is for files, `say` shows progress.

    `notes` collects what a reader must know.
    """

    quick: bool
    settings: Mapping[str, str]
    folder: Path
    say: Callable[[str], None]
    generator: Generator
    notes: list[str]

    @property
    def alone(self) -> Path:
        """The data folder of models that run without a stack."""
        return self.folder / "alone"

    @property
    def found(self) -> Path:
        """Where stacks of this run keep what searches for the fastest runtime found: each is made once."""
        return self.alone / "tuned"

    def either(self, full: T, quick: T) -> T:
        """Return the first, or the second in a run with `--quick`."""
        return quick if self.quick else full

    def rounds(self, count: int, what: str, limit_s: float) -> Iterator[int]:
        """Count up to `count`, but stop before the section would take too long, and note what was left out.

        The first round is always measured.
        """
        began_s = time.monotonic()
        for number in range(count):
            now_s = time.monotonic()
            round_s = (now_s - began_s) / max(number, 1)
            if number and now_s - began_s + round_s > limit_s:
                self.notes.append(f"{what}: {number} of {count} rounds, because this machine is slow or busy.")
                return
            yield number + 1

    def echo(self) -> Payload:
        """Return 64 bytes for the echo model."""
        path = self.folder / "echo.bin"
        path.write_bytes(ECHO_BODY)
        return Payload("echo", (path,))

    def pixels(self, model: str = "bench-mobilenet") -> Payload:
        """Return a raw picture for a classifier."""
        path = self.folder / "pixels.bin"
        path.write_bytes(random.Random(1).randbytes(PIXELS))
        return Payload(model, (path,))

    def photographs(self) -> Payload:
        """Return the photographs of `examples/photos` for the default model."""
        return Payload("imagenet", PHOTOS, "image/jpeg")
