"""The interface between a classifier and the library that runs its network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .network import Network
    from .row_ring import RowRing

Pixels = NDArray[np.uint8]


class CannotRun(Exception):
    """A runtime cannot run a network so; one sentence that says why, without a subject, such as ``it has …``."""


class Runner(Protocol):
    """A network that is ready on its device.

    Attributes:
        ring: where rows are best written to before they are run; None for anywhere.
        busy_s: seconds that the device has computed; None where that is the time spent in ``run``.
        padded_rows: rows computed for nothing so far, because batches are filled up to a certain size.
        working_rows: rows that at most run at once since memory ran out; None while it never did.
    """

    ring: RowRing | None
    busy_s: float | None
    padded_rows: int

    @property
    def working_rows(self) -> int | None: ...

    def computed_rows(self, rows: int) -> int:
        """Return how many rows a batch of ``rows`` computes, which may be filled up."""

    def run(self, rows: Sequence[Pixels]) -> NDArray[np.float32]:
        """Return the logits of ``rows``, (n, classes), as a fresh array.

        Args:
            rows: uint8 arrays of shape (side, side, 3).

        Raises:
            RuntimeError: the network's output is not (rows, classes).
        """


@dataclass(frozen=True, slots=True)
class Job:
    """What a runtime is to run.

    Attributes:
        device: ``cpu`` or ``cuda``.
        precision: as in :data:`shared.settings.PRECISIONS`, never ``auto``.
        max_batch: rows of the largest batch.
        threads: for one batch.
        side: height and width of a picture in pixels.
        folder: where ``build`` has put its files.
        network: the network in torch, for the runtimes that need it; ``needs_network`` says which do.
    """

    device: str
    precision: str
    max_batch: int
    threads: int
    side: int
    folder: Path
    network: Network | None = None


class Runtime(Protocol):
    """A library that runs networks.

    Attributes:
        name: as in :data:`shared.settings.RUNTIMES`.
        needs_network: whether ``open`` needs the network in torch; if not, the files of ``build`` are enough.
    """

    name: str
    needs_network: bool

    def missing(self, device: str) -> str:
        """Say in a sentence what is not there, with the name of the extra that brings it; empty when all is."""

    def precisions(self, device: str) -> tuple[str, ...]:
        """Return those for which this device has instructions, the likeliest to win first; nothing is loaded."""

    def build(self, job: Job, samples: Sequence[Pixels]) -> None:
        """Write into ``job.folder`` whatever ``open`` will need.

        Args:
            samples: pictures of the kind that clients send, for calibration.

        Raises:
            CannotRun: the network cannot be brought into the form that this runtime takes.
        """

    def open(self, job: Job) -> Runner:
        """Make a runner.

        Raises:
            CannotRun: what is in the folder cannot be used, or the network does not fit.
        """
