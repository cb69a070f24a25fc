"""The search on a small network in torch, beside runtimes that do what no library should."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from consumer.runtimes.base import CannotRun, Job, Pixels, Runner
from consumer.runtimes.network import Network
from consumer.runtimes.session import SessionRunner
from consumer.tuning.candidates import runtime
from consumer.tuning.findings import check
from consumer.tuning.search import Limits, NoRoom, Search
from shared.model_config import Preprocessing
from shared.state.cards import Trial
from tests.children import ROOT, clean_environment

SIDE = 16
BUDGET_S = 30.0


def network() -> Network:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)).eval()
    return Network(module, Preprocessing(resize=SIDE, crop=SIDE), tuple(map(str, range(10))))


class Odd:
    """A runtime that does as it is told when it builds or opens; else it runs the network in torch."""

    name = "onnxruntime"
    needs_network = False

    def __init__(self, build: Callable[[], object] = lambda: None, scale: float = 1.0, slow_s: float = 0.0) -> None:
        self._build, self._scale, self._slow_s = build, scale, slow_s

    def missing(self, device: str) -> str:
        """Nothing is."""
        return ""

    def precisions(self, device: str) -> tuple[str, ...]:
        """Both."""
        return ("fp32", "int8")

    def build(self, job: Job, samples: Sequence[Pixels]) -> None:
        """As told."""
        self._build()

    def open(self, job: Job) -> Runner:
        """Run the network in torch, scaled and slowed down."""
        inner = runtime("torch").open(Job("cpu", "fp32", job.max_batch, 1, job.side, job.folder, job.network))

        def infer(batch: Pixels) -> NDArray[np.float32]:
            end_s = time.process_time() + self._slow_s
            while time.process_time() < end_s:
                pass
            return inner.run(list(batch)) * np.float32(self._scale)

        return SessionRunner(infer, job.side, job.max_batch)


def search(room: Path, budget_s: float = BUDGET_S, abandons: bool = True) -> Search:
    limits = Limits((1, 2, 4), 1, budget_s, abandons)
    return Search(network(), [], "cpu", limits, room, lambda *_: None, time.process_time())


def trial_of(room: Path, odd: Odd, budget_s: float = BUDGET_S, abandons: bool = True, precision: str = "fp32") -> Trial:
    """Search with one candidate beside torch; returns what became of that."""
    made = search(room, budget_s, abandons)
    made.run([(odd, precision)], runtime("torch"))
    finding = made.finding("auto", "auto")
    check(finding)
    assert finding.trials[0].runtime == "torch"
    return finding.trials[1]


def fail(error: BaseException) -> Callable[[], object]:
    def build() -> None:
        raise error

    return build


def wrapped(error: OSError) -> Callable[[], object]:
    """As libraries do: another error, which names this one as its cause."""

    def build() -> None:
        try:
            raise error
        except OSError as cause:
            raise CannotRun("it cannot be exported to ONNX: no idea.") from cause

    return build


def test_what_cannot_run_or_fails_is_a_sentence(tmp_path: Path) -> None:
    assert trial_of(tmp_path, Odd(fail(CannotRun("it has no legs.")))).outcome == "it has no legs."


@pytest.mark.parametrize("error", [ZeroDivisionError("a bug"), MemoryError(), OSError("no such library")])
def test_whatever_a_library_raises_is_a_sentence(tmp_path: Path, error: Exception) -> None:
    outcome = trial_of(tmp_path, Odd(fail(error))).outcome
    assert outcome.startswith("it failed: ")
    assert type(error).__name__ in outcome


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("how", [fail, wrapped])
def test_a_full_disk_ends_the_search_and_is_nobodys_fault(
    tmp_path: Path, number: int, how: Callable[[OSError], Callable[[], object]]
) -> None:
    with pytest.raises(NoRoom) as raised:
        trial_of(tmp_path, Odd(how(OSError(number, "no room", "model.onnx"))))
    assert (raised.value.errno, raised.value.filename) == (number, "model.onnx")


def forever() -> None:
    while True:
        try:
            sum(range(1000))
        except Exception:  # as a library might
            continue


def test_a_candidate_without_an_end_is_given_up_with_the_budget(tmp_path: Path) -> None:
    """In a process of its own: a signal that comes at the wrong time would end that of all other tests."""
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.unit.consumer.tuning.test_search import Odd, forever, trial_of\n"
        "print(trial_of(Path(sys.argv[1]), Odd(forever), budget_s=1.0).outcome)"
    )
    argv = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, env=clean_environment(), capture_output=True, text=True)
    said = "given up, because the 1 s for the search were over."
    assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr


def test_after_the_budget_nothing_is_tried(tmp_path: Path) -> None:
    made = Search(network(), [], "cpu", Limits((1, 2, 4), 1, 1.0), tmp_path, lambda *_: None, time.process_time() - 2.0)
    made.run([(Odd(), "fp32")], runtime("torch"))
    finding = made.finding("auto", "auto")
    assert (finding.runtime, finding.trials[1].outcome) == ("torch", "not tried: the 1 s for the search were over.")


def test_outputs_that_differ_lose_however_fast_they_come(tmp_path: Path) -> None:
    assert trial_of(tmp_path, Odd(scale=1.5), abandons=False).outcome.startswith("its outputs differ: against fp32 on ")


def test_the_slow_one_is_given_up_unless_it_was_asked_for_by_name(tmp_path: Path) -> None:
    slow = Odd(slow_s=0.03)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert trial_of(tmp_path / "a", slow).outcome.startswith("given up at its first batch: ")
    assert trial_of(tmp_path / "b", slow, abandons=False).rows_per_s is not None
