"""[I/O] Ordinary requests at half of a device's capacity, alone and beside a full lane of kind `batch`, in turns.

`python -m tests.perf.gaps.measured [waiting|network|echo …]` starts a stack for each, and prints the table of
docs/now-and-later.md. Ordinary requests come at random (`tests.perf.programs.timed`), the lane of kind `batch` is kept
full (`tests.perf.programs.direct`); both are direct producers, so that what is compared is the consumer.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from loadgen.load.exposition import Samples
from shared import keys
from shared.redis.client import connect
from shared.state import lanes
from tests.children import ROOT, clean_environment
from tests.helpers import eventually
from tests.perf import scrape
from tests.perf.programs import direct, timed
from tests.perf.programs.waiting_model import models_file
from tests.perf.stack import WORK, Stack

LANE: Final = "bulk"
IN_FLIGHT: Final = 512
MOST_PER_S: Final = 400.0
"""What the producer of ordinary requests can send in time on a small machine; of echo it is no half."""


@dataclass(frozen=True)
class Case:
    """A model, what is sent to it, and how long a window is."""

    name: str
    model: str
    settings: Mapping[str, str]
    body: bytes
    seconds: float = 8.0
    rounds: int = 1
    content_type: str = "application/octet-stream"


@dataclass
class Window:
    """What one window showed: latencies of ordinary requests in ms, busy share, requests of the batch lane a second."""

    latencies_ms: list[float]
    busy: float
    bulk_per_s: float = 0.0
    own_batch_ms: float = 0.0

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of the latencies."""
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass
class Compared:
    """The windows of a case."""

    capacity_per_s: float
    alone: list[Window] = field(default_factory=list)
    beside: list[Window] = field(default_factory=list)


class Site:
    """A running stack with its two lanes."""

    def __init__(self, case: Case, stack: Stack, body: Path) -> None:
        self.case, self.stack, self.body = case, stack, str(body)
        self.metrics = stack.metrics_urls(case.model)
        with connect(stack.redis_url) as client:
            settings: dict[str | bytes, Any] = {LANE: lanes.encode(100_000, 1.0), lanes.kind_field(LANE): lanes.BATCH}
            client.hset(keys.lanes(case.model), mapping=settings)
            eventually(lambda: client.exists(keys.work(case.model, LANE)), limit_s=20.0)
        time.sleep(2.0)  # until every consumer has seen it

    def capacity_per_s(self) -> float:
        """Measure what the ordinary lane gets done when it is kept full."""
        job = self._filling(keys.DEFAULT_LANE, self.case.seconds / 2)
        return self._rate(_output(job, direct.Outcome, "direct"))

    @staticmethod
    def _rate(outcome: direct.Outcome) -> float:
        return outcome.items / outcome.seconds

    def _filling(self, lane: str, seconds: float) -> direct.Job:
        return direct.Job(
            url=self.stack.redis_url,
            model=self.case.model,
            body=self.body,
            content_type=self.case.content_type,
            in_flight=IN_FLIGHT,
            seconds=seconds,
            lane=lane,
        )

    def window(self, rate_per_s: float, seed: int, *, has_bulk: bool) -> Window:
        """Measure one window."""
        case = self.case
        job = timed.Job(
            url=self.stack.redis_url,
            model=case.model,
            body=self.body,
            content_type=case.content_type,
            rate_per_s=rate_per_s,
            seconds=case.seconds,
            warm_up_s=2.0,
            seed=seed,
        )
        bulk = self._filling(LANE, case.seconds + 2.0)
        with _running(bulk if has_bulk else None) as filling:
            time.sleep(2.0 if has_bulk else 0.0)
            before, begun_s = [scrape.read(url) for url in self.metrics], time.perf_counter()
            found = _output(job, timed.Outcome, "timed")
            after, took_s = [scrape.read(url) for url in self.metrics], time.perf_counter() - begun_s
            if found.failed:
                raise SystemExit(f"{found.failed} requests were not answered.")
            change = scrape.change(before, after, took_s)
            window = Window(found.latencies_ms, change.busy_share)
            if filling is not None:
                done = [_ran(one) for one in (before, after)]
                window.bulk_per_s = (done[1] - done[0]) / took_s
        return window


def _ran(samples: list[Samples]) -> float:
    return sum(
        value for one in samples for (name, _), value in one.items() if name == "headrace_batch_lane_requests_total"
    )


def _argv(job: msgspec.Struct, program: str) -> list[str]:
    return [sys.executable, "-m", f"tests.perf.programs.{program}", msgspec.json.encode(job).decode()]


def _output(job: msgspec.Struct, kind: type[Any], program: str) -> Any:
    done = subprocess.run(
        _argv(job, program), cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True
    )
    return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=kind)


@contextmanager
def _running(job: direct.Job | None) -> Iterator[subprocess.Popen[bytes] | None]:
    if job is None:
        yield None
        return
    process = subprocess.Popen(_argv(job, "direct"), cwd=ROOT, env=clean_environment(), stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def photo() -> bytes:
    """Return a picture of noise as JPEG, 480 by 360."""
    from PIL import Image

    with io.BytesIO() as file:
        Image.effect_noise((480, 360), 60).convert("RGB").save(file, "JPEG", quality=85)
        return file.getvalue()


def network() -> Case:
    """Return the case of a real network on the processor, which decodes pictures, too."""
    settings = {"HEADRACE_APPENDONLY": "no", "HEADRACE_CONSUMERS": "1", "HEADRACE_TUNE": "off"}
    return Case("network", "bench-mobilenet", settings, photo(), content_type="image/jpeg")


def waiting(per_row_ms: float, per_batch_ms: float, name: str, **settings: str) -> Case:
    """Return the case of a device elsewhere, which takes so long."""
    file = WORK / f"gaps-{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(models_file(per_row_ms, per_batch_ms), "utf-8")
    own = {"HEADRACE_MODELS_FILE": str(file), "HEADRACE_APPENDONLY": "no", "HEADRACE_CONSUMERS": "1", **settings}
    return Case(name, "waiting", own, b"headrace" * 8)


CASES: Final[Mapping[str, Callable[[], Case]]] = {
    "gpu": lambda: waiting(1.0, 40.0, "gpu"),
    "cpu": lambda: waiting(5.0, 2.0, "cpu"),
    "two": lambda: waiting(5.0, 2.0, "two", HEADRACE_CONSUMERS="2"),
    "network": network,
    "echo": lambda: Case(
        "echo", "echo", {"HEADRACE_APPENDONLY": "no", "HEADRACE_CONSUMERS": "1"}, b"headrace" * 8, seconds=5.0
    ),
}


def compare(case: Case) -> Compared:
    """Measure a case, alone and beside a full lane in turns."""
    body = WORK / f"gaps-{case.name}.body"
    body.parent.mkdir(parents=True, exist_ok=True)
    body.write_bytes(case.body)
    with Stack((case.model,), case.settings) as stack:
        site = Site(case, stack, body)
        found = Compared(site.capacity_per_s())
        for number in range(case.rounds):
            for has_bulk in (False, True):
                rate_per_s = min(MOST_PER_S, found.capacity_per_s / 2)
                window = site.window(rate_per_s, number, has_bulk=has_bulk)
                (found.beside if has_bulk else found.alone).append(window)
    return found


def told(case: Case, found: Compared) -> str:
    """Return a line of the table."""
    alone = Window([one for window in found.alone for one in window.latencies_ms], _mean(found.alone))
    beside = Window([one for window in found.beside for one in window.latencies_ms], _mean(found.beside))
    bulk_per_s = sum(window.bulk_per_s for window in found.beside) / len(found.beside)
    idle_per_s = found.capacity_per_s * (1 - alone.busy)
    times = [f"{one.quantile_ms(0.5):.1f} / {one.quantile_ms(0.99):.1f}" for one in (alone, beside)]
    shares = [f"{one.busy:.0%}" for one in (alone, beside)]
    rates = [f"{rate:,.0f}/s" for rate in (found.capacity_per_s, bulk_per_s, idle_per_s)]
    return f"| {case.name} | {rates[0]} | {' | '.join((*times, *shares, *rates[1:]))} |"


def _mean(windows: list[Window]) -> float:
    return sum(window.busy for window in windows) / len(windows)


def main() -> None:
    """Measure the cases that the command line names, or all."""
    print("| model | capacity | alone p50 / p99, ms | beside bulk | busy alone | busy beside | bulk | idle alone |")
    print("|---|---|---|---|---|---|---|---|")
    for name in sys.argv[1:] or CASES:
        case = CASES[name]()
        print(told(case, compare(case)), flush=True)


if __name__ == "__main__":
    main()
