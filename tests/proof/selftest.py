"""[I/O] `make selftest`: what the generator itself can do, against a server that does nothing.

The server runs in a process of its own and logs when it saw each request. Its log, and not the generator's word, says
at which rate and with which gaps requests came, and how many were under way.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

import click

from loadgen.errors import EXIT_INVALID, EXIT_OK, LoadgenError
from loadgen.load.runner import perform, plan
from loadgen.progress import choose_progress
from loadgen.results.runfile import RunFile
from loadgen.scenario import Payload, Scenario, parse_target

_CONCURRENCY: Final = 32
_TOLERANCE: Final = 0.02
_MOST_DISTANCE: Final = 0.3
"""Between the gaps that the server saw and those planned. Where timers are good to a millisecond only it is 0.2 at
2,000/s; requests sent in bunches give 0.6 and more."""
_MANY: Final = 256
_WRK_TOLERANCE: Final = 0.05
_BODY: Final = Payload("64 bytes", "application/octet-stream", b"headrace" * 8)


@dataclass(frozen=True, slots=True)
class ServerLog:
    """What the server saw: when each request came in, in seconds on one clock, and how many were under way at most."""

    arrived_s: Sequence[float]
    most_under_way: int

    @property
    def rate_per_s(self) -> float:
        """Requests per second between the first and the last."""
        took_s = self.arrived_s[-1] - self.arrived_s[0] if len(self.arrived_s) > 1 else 0.0
        return (len(self.arrived_s) - 1) / took_s if took_s > 0 else math.nan


def gap_distance(measured: Sequence[float], planned: Sequence[float]) -> float:
    """Return the largest distance between the distributions of two sequences' gaps (Kolmogorov and Smirnov), 0 to 1.

    Both are sorted times; shifting one of them as a whole changes nothing. Pure.
    """
    left, right = (sorted(later - earlier for earlier, later in pairwise(times)) for times in (measured, planned))
    if not left or not right:
        return 1.0
    worst, i, j = 0.0, 0, 0
    while i < len(left) and j < len(right):
        at = min(left[i], right[j])
        while i < len(left) and left[i] <= at:
            i += 1
        while j < len(right) and right[j] <= at:
            j += 1
        worst = max(worst, abs(i / len(left) - j / len(right)))
    return worst


def carry_out(*, duration_s: float, rate: float, least_ceiling: float, most_lag_ms: float) -> int:
    """Carry out `selftest`: print what was found, and return 0, or 20 when the generator is not fit."""
    closed, closed_log = measure(closed_loop(duration_s))
    spaced, spaced_log = measure(open_loop(rate, duration_s))
    ceiling = closed.counts.ok / duration_s
    lag_ms = spaced.validity.send_lag.p99_ms
    distance = gap_distance(spaced_log.arrived_s, plan(open_loop(rate, duration_s)))
    _, crowded_log = measure(closed_loop(min(duration_s, 1.0)), "--delay-ms", "5")
    counts, most = spaced.counts, crowded_log.most_under_way
    lag = "unknown" if lag_ms is None else f"{lag_ms:.3g} ms at {rate:,.0f}/s"
    lines = [
        ("ceiling", f"{ceiling:,.0f}/s, closed loop of {_CONCURRENCY}", ceiling >= least_ceiling),
        ("  by the server", f"{closed_log.rate_per_s:,.0f}/s", abs(closed_log.rate_per_s / ceiling - 1) <= _TOLERANCE),
        ("send lag, p99", lag, lag_ms is not None and lag_ms <= most_lag_ms),
        ("  by the server", f"{spaced_log.rate_per_s:,.0f}/s", abs(spaced_log.rate_per_s / rate - 1) <= _TOLERANCE),
        ("  gaps", f"{distance:.3f} from the plan's (Kolmogorov-Smirnov)", distance <= _MOST_DISTANCE),
        ("under way", f"{most} at a time by the server, {_CONCURRENCY} planned", most == _CONCURRENCY),
        ("answered", f"{counts.ok:,} of {counts.scheduled:,}", counts.ok == counts.scheduled),
    ]
    if shutil.which("wrk"):
        ours, theirs = against_wrk(ceiling / 2, duration_s)
        text = f"{ours:,.0f}/s, wrk {theirs:,.0f}/s, on a server that does half the ceiling"
        lines.append(("like wrk", text, abs(ours / theirs - 1) <= _WRK_TOLERANCE))
    else:
        lines.append(("like wrk", "not installed, not compared", True))
    for name, value, fit in lines:
        click.echo(f"{name:16} {value}{'' if fit else '  NOT FIT'}")
    good = all(fit for _, _, fit in lines)
    click.echo(
        "selftest: " + ("fit" if good else "this machine, or what else runs on it, is too slow for the generator")
    )
    return EXIT_OK if good else EXIT_INVALID


def against_wrk(rate: float, duration_s: float) -> tuple[float, float]:
    """Return what this generator and wrk reach in a closed loop, one after the other, on servers that do about `rate`.

    The order is ours, wrk, wrk, ours, so that what drifts falls on both alike.

    Raises:
        LoadgenError: wrk printed no figures.
    """
    # Answers that take a while, and not a busy server: how many requests a busy one finds at each turn of its loop, and
    # so what one costs it, would depend on who asks.
    work = ("--delay-ms", str(max(1, round(1000 * _MANY / rate))))
    ours, theirs = [], []
    for ours_turn in (True, False, False, True):
        if ours_turn:
            run, _ = measure(closed_loop(duration_s, _MANY), *work)
            ours.append(run.counts.ok / duration_s)
        else:
            with null_process(*work) as server:
                theirs.append(_wrk(f"{server.url}/v1/models/null/predict", duration_s))
    return sum(ours) / 2, sum(theirs) / 2


def _wrk(url: str, duration_s: float) -> float:
    script = "wrk.method = 'POST'; wrk.body = string.rep('headrace', 8); "
    script += "wrk.headers['Content-Type'] = 'application/octet-stream'"
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        whole_s = max(1, round(duration_s))
        command = ["wrk", "-t1", f"-c{_MANY}", f"-d{whole_s}s", "-s", file.name, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=whole_s + 30)
    match = re.search(r"Requests/sec: +([\d.]+)", done.stdout)
    if match is None:
        raise LoadgenError("wrk printed no figures.")
    return float(match[1])


def closed_loop(duration_s: float, concurrency: int = _CONCURRENCY) -> Scenario:
    """Return the scenario that finds the ceiling."""
    return _scenario(duration_s, concurrency=concurrency)


def open_loop(rate: float, duration_s: float) -> Scenario:
    """Return the scenario that finds the lag."""
    return _scenario(duration_s, rate_per_s=rate)


def _scenario(duration_s: float, rate_per_s: float | None = None, concurrency: int | None = None) -> Scenario:
    return Scenario(
        target=parse_target("http://127.0.0.1"),
        model="null",
        payloads=(_BODY,),
        duration_s=duration_s,
        warmup_s=0.0,
        seed=1,
        rate_per_s=rate_per_s,
        concurrency=concurrency,
    )


def measure(scenario: Scenario, *arguments: str) -> tuple[RunFile, ServerLog]:
    """Carry out a scenario against a null server in another process, and return the result and the server's log.

    Raises:
        LoadgenError: the server did not start, or the run was broken off.
    """
    with null_process(*arguments) as server:
        target = parse_target(server.url)
        run, stopped_by = perform(
            replace(scenario, target=target), (target,), lambda: choose_progress("the generator itself")
        )
        if stopped_by is not None:
            raise LoadgenError("The selftest was broken off.", 128 + stopped_by)
        return run, server.finish()


class NullProcess:
    """A null server in a process of its own, which ends with its standard input and then writes its log."""

    def __init__(self, log_path: Path, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "tests.proof.null_server", "--log", str(log_path), *arguments]
        self._log_path = log_path
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        assert self.popen.stdout is not None
        self.url = self.popen.stdout.readline().strip()

    def finish(self) -> ServerLog:
        """End the server and return what it saw.

        Raises:
            LoadgenError: it left no log.
        """
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        self.popen.wait(20)
        numbers = array("d")
        numbers.frombytes(self._log_path.read_bytes())
        if not numbers:
            raise LoadgenError("The null server left no log.")
        return ServerLog(numbers[1:], int(numbers[0]))

    def close(self) -> None:
        """End it, whatever it is doing."""
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def null_process(*arguments: str) -> Iterator[NullProcess]:
    """Run a null server while the block runs.

    With two cores and more, server and generator get cores of their own, so that neither's figures are the other's.

    Raises:
        LoadgenError: it did not start.
    """
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    with tempfile.TemporaryDirectory(prefix="headrace-null-") as folder:
        server = NullProcess(Path(folder) / "log", arguments)
        try:
            if not server.url:
                raise LoadgenError("The null server did not start.")
            if len(cores) > 1:
                first = min(cores)
                os.sched_setaffinity(server.popen.pid, {first})
                os.sched_setaffinity(0, cores - {first})
            yield server
        finally:
            if len(cores) > 1:
                os.sched_setaffinity(0, cores)
            server.close()
