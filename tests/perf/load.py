"""[I/O] One window of closed-loop load, by wrk or by Headrace's own load generator."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from loadgen.results import read_run
from loadgen.runfile import RunFile
from shared.embedded import dies_with_parent
from tests.children import ROOT, clean_environment

from . import processes, wrk
from .figures import Window
from .stack import BenchError

ECHO_BODY: Final = b"headrace" * 8
"""The body that echo.lua sends: 64 bytes."""

_SPARE_S: Final = 30.0


def run(argv: Sequence[str], limit_s: float, **settings: str) -> str:
    """Run a command to its end and return what it printed.

    Raises:
        BenchError: it failed or took longer than `limit_s`; its last lines are in the sentence.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env=clean_environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
            check=False,
            preexec_fn=dies_with_parent(),
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(argv[:4])} took longer than {limit_s:g} s.") from None
    if done.returncode != 0:
        raise BenchError(f"{' '.join(argv[:4])} ended with code {done.returncode}: {done.stdout.strip()[-500:]}")
    return done.stdout


class EchoLoad:
    """Sends 64 bytes again and again: with wrk where it is installed, else with `loadgen`."""

    def __init__(self, folder: Path) -> None:
        self._wrk = shutil.which("wrk")
        self._folder = folder
        self._payload = folder / "echo.bin"
        self._payload.write_bytes(ECHO_BODY)

    @property
    def name(self) -> str:
        """Which generator it is, with its version."""
        if self._wrk is None:
            return "loadgen"
        # wrk prints its version together with its usage, and ends with 1.
        text = subprocess.run([self._wrk, "-v"], capture_output=True, text=True, check=False).stdout
        match = re.match(r"wrk \S*?(\d+\.\d+\.\d+)", text)
        return f"wrk {match[1]}" if match else "wrk"

    def window(
        self, url: str, subject: str, connections: int, duration_s: float, pids: Mapping[str, int] | None = None
    ) -> Window:
        """Load `url`'s echo model for a while.

        Args:
            pids: processes whose processor time per request is wanted, by name.

        Raises:
            BenchError: no figures came of it.
        """
        before = {name: processes.cpu_s(pid) for name, pid in (pids or {}).items()}
        window = self._load(url, subject, connections, duration_s)
        if pids:
            used_s = {name: processes.cpu_s(pid) - before[name] for name, pid in pids.items()}
            per_request = {name: seconds * 1e6 / max(window.requests, 1) for name, seconds in used_s.items()}
            window = msgspec.structs.replace(window, cpu_us=per_request)
        return window

    def _load(self, url: str, subject: str, connections: int, duration_s: float) -> Window:
        if self._wrk is None:
            result = closed_loop(url, "echo", [self._payload], connections, duration_s, self._folder, warmup_s=0.0)
            return from_run(result, subject, connections)
        argv = wrk.argv(self._wrk, f"{url}/v1/models/echo/predict", connections, duration_s)
        try:
            return wrk.parse(run(argv, duration_s + _SPARE_S), subject, connections)
        except ValueError as error:
            raise BenchError(str(error)) from None


def closed_loop(
    url: str,
    model: str,
    payloads: Sequence[Path],
    connections: int,
    duration_s: float,
    folder: Path,
    *,
    warmup_s: float,
    metrics_url: str | None = None,
) -> RunFile:
    """Run `python -m loadgen run` with so many requests under way at any time, and return its result.

    Raises:
        BenchError: it failed.
    """
    argv = [sys.executable, "-m", "loadgen", "run", "--url", url, "--model", model]
    argv += [part for payload in payloads for part in ("--payload", str(payload))]
    argv += ["--concurrency", str(connections), "--duration", f"{duration_s:g}s", "--warmup", f"{warmup_s:g}s"]
    argv += ["--out", str(folder)] + (["--metrics", metrics_url] if metrics_url else [])
    run(argv, duration_s + warmup_s + _SPARE_S)
    return read_run(folder / "run.json")


def from_run(result: RunFile, subject: str, connections: int, max_batch: int | None = None) -> Window:
    """Return the window that a result of `loadgen` describes. Pure.

    In a closed loop every answer starts a request, so the requests started within the measured time are the
    throughput; the share of time in which the model ran covers the warm-up and the last answers too.
    """
    configuration, latency = result.configuration, result.latency.answered_from_planned
    ended_s = max(result.requests.done_us, default=0) / 1e6
    sums = {
        (histogram.name, histogram.labels.get("stage")): (histogram.sum, histogram.count)
        for histogram in result.service.histograms or []
    }
    run_s, _ = sums.get(("headrace_stage_duration_seconds", "inference"), (None, 0))
    rows, batches = sums.get(("headrace_batch_size", None), (0.0, 0))
    return Window(
        subject=subject,
        connections=connections,
        max_batch=max_batch,
        duration_s=configuration.duration_s,
        requests=result.counts.ok,
        failed=result.counts.scheduled - result.counts.ok,
        rate_per_s=result.counts.ok / configuration.duration_s,
        mean_ms=latency.mean_ms,
        p50_ms=latency.p50_ms,
        p99_ms=latency.p99_ms,
        busy_share=None if run_s is None else run_s / (configuration.warmup_s + ended_s),
        batch_rows=rows / batches if batches else None,
    )
