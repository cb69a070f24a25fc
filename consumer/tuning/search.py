"""The search itself: builds each candidate, runs it, and leaves the judgement to the race."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

from consumer.events import Parity
from consumer.models.model_errors import described
from consumer.models.pictures import samples
from consumer.runtimes.base import CannotRun, Job, Pixels, Runner, Runtime
from consumer.runtimes.network import Network

from .findings import BatchTimes, Finding
from .limit import OutOfTime, is_fine, processor_time
from .measuring import measure, shortest_s
from .parity import THRESHOLDS, agreement
from .race import FP32, Candidate, Race

log = logging.getLogger(__name__)

SIZES = (1, 5, 8, 32)
"""Batches that are compared. 5 is no power of two: where batches are padded, padded rows must not change the others."""
FIRST_ROWS = 8
"""Rows of the batch by which a candidate may be given up."""
BRIEF_S, BRIEF_RUNS = 0.1, 5
"""Within so long a first batch is run again before it is judged, a few times: part of it is done once only, and short
runs are made longer by what else the machine does."""
MEASURE_S = 4.0
"""Time for measuring the sizes of one candidate."""
CALIBRATION_ROWS = 32
"""Pictures that int8 is calibrated with; none of them is compared."""

REFERENCE = Candidate("torch", FP32)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class NoRoom(OSError):
    """The disk is full or broken. That says nothing about the candidate that met it, so the search has no result."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a search may use.

    Attributes:
        sizes: of batches to measure, ascending; the last one is the largest batch.
        threads: for one batch.
        budget_s: seconds of processor time.
        abandons: whether to give up slow candidates; not what was named.
    """

    sizes: tuple[int, ...]
    threads: int
    budget_s: float
    abandons: bool = True


class Search:
    """Tries candidates on one network.

    Args:
        photographs: pictures of the user's, to be compared first; made ones follow.
        room: an empty folder, which gets a subfolder for each candidate.
        on_try: told which candidate is tried next, and the seconds of processor time used so far.
        begun_s: processor time of this process from which on the budget counts.
    """

    def __init__(
        self,
        network: Network,
        photographs: Sequence[Pixels],
        device: str,
        limits: Limits,
        room: Path,
        on_try: Callable[[Candidate, float], None],
        begun_s: float,
    ) -> None:
        self._network, self._device, self._limits = network, device, limits
        self._room, self._on_try = room, on_try
        self._side, self._max_batch = network.preprocessing.crop, limits.sizes[-1]
        made = samples.pictures(max(self._max_batch, SIZES[-1]) + CALIBRATION_ROWS, self._side, self._side)
        self._calibration = made[-CALIBRATION_ROWS:]
        self._pictures = [*photographs, *made[:-CALIBRATION_ROWS]][: self._max_batch]
        # What else the machine does makes a run longer, but not the processor time of this process.
        self._timer = process_time if device == "cpu" and limits.threads == 1 and is_fine() else perf_counter
        self._begun_s = begun_s
        self.race = Race(self._max_batch, limits.budget_s)

    def run(self, candidates: Sequence[tuple[Runtime, str]], reference: Runtime) -> None:
        """Try torch in fp32 first, which all others are compared with, and then each runtime in its precision.

        Args:
            reference: torch.

        Raises:
            NoRoom: the disk is full or broken.
            Exception: what torch raises on the network.
        """
        self._tell(REFERENCE)
        job = self._job(REFERENCE)
        runner = reference.open(job)
        first_s = self._first_s(runner)
        self._exact = self._outputs(runner)
        parity = Parity(FP32, 0, 1.0, 0.0, 1.0, True, "nothing to compare, it is what others are compared with.")
        self.race.ran(REFERENCE, parity, self._measured(runner) or self._first(first_s), first_s)
        self._best_exact = runner
        for runtime, precision in candidates:
            candidate = Candidate(runtime.name, precision)
            if candidate != REFERENCE:
                self._attempt(runtime, candidate)

    def finding(self, asked_runtime: str, asked_precision: str) -> Finding:
        """Say what won among the requested ones."""
        return self.race.finding(self._used_s, asked_runtime, asked_precision)

    def folder_of(self, finding: Finding) -> Path:
        """Return where the files of the winner are."""
        return self._folder(Candidate(finding.runtime, finding.precision))

    @property
    def _used_s(self) -> float:
        return process_time() - self._begun_s

    def _tell(self, candidate: Candidate) -> None:
        log.info("Trying %s in %s; %.0f s used.", candidate.runtime, candidate.precision, self._used_s)
        self._on_try(candidate, self._used_s)

    def _attempt(self, runtime: Runtime, candidate: Candidate) -> None:
        race, left_s = self.race, self._limits.budget_s - self._used_s
        if not race.has_time(self._used_s):
            race.out(candidate, f"not tried: the {self._limits.budget_s:g} s for the search were over.")
            return
        self._tell(candidate)
        try:
            with processor_time(left_s):
                self._compete(runtime, candidate)
        except OutOfTime:
            if not race.knows(candidate):
                race.out(candidate, f"given up, because the {self._limits.budget_s:g} s for the search were over.")
        except CannotRun as error:
            _raise_if_no_room(error)
            race.out(candidate, str(error))
        except Exception as error:  # a library's code on anybody's network
            _raise_if_no_room(error)
            race.out(candidate, f"it failed: {described(error)[:300].rstrip('.')}.")

    def _compete(self, runtime: Runtime, candidate: Candidate) -> None:
        job = self._job(candidate)
        runtime.build(job, self._calibration)
        runner = runtime.open(job)
        first_s = self._first_s(runner)
        if self._limits.abandons and self.race.is_hopeless(first_s):
            best_s = self.race.best_first_s or 0.0
            raise CannotRun(f"given up at its first batch: {first_s * 1000:.3g} ms, the best {best_s * 1000:.3g} ms.")
        parity = self._compared(self._outputs(runner), candidate)
        if not parity.passed:
            raise CannotRun(f"its outputs differ: {parity.reason}")
        if candidate.precision != FP32:
            measured, exact = self._measured_in_turns(runner)
            self.race.ran(candidate, parity, measured or self._first(first_s), first_s, exact)
            return
        self.race.ran(candidate, parity, self._measured(runner) or self._first(first_s), first_s)
        if self.race.is_best_exact(candidate):
            self._best_exact = runner

    def _compared(self, outputs: NDArray[np.float32], candidate: Candidate) -> Parity:
        return agreement(self._exact, outputs, candidate.precision, THRESHOLDS[candidate.precision])

    def _job(self, candidate: Candidate) -> Job:
        folder = self._folder(candidate)
        folder.mkdir()
        return Job(
            self._device,
            candidate.precision,
            self._max_batch,
            self._limits.threads,
            self._side,
            folder,
            self._network,
        )

    def _folder(self, candidate: Candidate) -> Path:
        return self._room / f"{candidate.runtime}-{candidate.precision}"

    def _outputs(self, runner: Runner) -> NDArray[np.float32]:
        sizes = sorted({min(size, self._max_batch) for size in SIZES})
        return np.concatenate([runner.run(self._pictures[:size]) for size in sizes])

    def _first(self, first_s: float) -> BatchTimes:
        """What there is of a network that is too slow to be measured: the time of its first batch."""
        return ((min(FIRST_ROWS, self._max_batch), first_s),)

    def _first_s(self, runner: Runner) -> float:
        return shortest_s(lambda: runner.run(self._pictures[:FIRST_ROWS]), 1, BRIEF_RUNS, BRIEF_S, self._timer)

    def _measured(self, *runners: Runner | Timed) -> BatchTimes:
        def run(size: int) -> None:
            for runner in runners:
                runner.run(self._pictures[:size])

        # Batches of one size follow each other under a steady load, and some libraries prepare again for another size:
        # OpenVINO takes 1.8 ms for that, as long as a row of a small network takes.
        return measure(
            run,
            self._limits.sizes,
            MEASURE_S * len(runners),
            always_rows=FIRST_ROWS,
            clock=self._timer,
            prepare=run,
        )

    def _measured_in_turns(self, runner: Runner) -> tuple[BatchTimes, BatchTimes]:
        """Measure ``runner`` and the best fp32 in turns, so that what else the machine does is the same for both."""
        timers = [Timed(one, self._timer) for one in (runner, self._best_exact)]
        self._measured(*timers)
        return timers[0].fastest, timers[1].fastest


def _raise_if_no_room(error: BaseException) -> None:
    """Raise the error of a full or broken disk, however a library has wrapped it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
            raise NoRoom(cause.errno, cause.strerror, cause.filename) from error
        cause = cause.__cause__ or cause.__context__


class Timed:
    """A runner whose fastest runs are noted; the first one of each size is left out."""

    def __init__(self, runner: Runner, timer: Callable[[], float]) -> None:
        self._runner, self._timer = runner, timer
        self._warm: set[int] = set()
        self._fastest_s: dict[int, float] = {}

    def run(self, rows: Sequence[Pixels]) -> None:
        """Run ``rows``."""
        begun_s, size = self._timer(), len(rows)
        self._runner.run(rows)
        took_s = self._timer() - begun_s
        if size in self._warm:
            self._fastest_s[size] = min(took_s, self._fastest_s.get(size, took_s))
        self._warm.add(size)

    @property
    def fastest(self) -> BatchTimes:
        """What batches took, ascending."""
        return tuple(sorted(self._fastest_s.items()))
