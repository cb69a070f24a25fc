"""[I/O] One window of load through REST, by wrk or by Headrace's own load generator, or by the direct producer."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from loadgen.results.files import read
from loadgen.results.runfile import RunFile
from shared.redis.embedded import dies_with_parent
from tests.children import ROOT, clean_environment
from tests.perf import processes, wrk
from tests.perf.programs import direct
from tests.perf.stack import BenchError, Process, Stack
from tests.perf.windows import Window, from_run

ECHO_BODY: Final = b"headrace" * 8
RAW: Final = "application/octet-stream"
PREDICT: Final = "/v1/models/{model}/predict"

_SPARE_S: Final = 30.0
_ENDLESS_S: Final = 3600.0


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


@dataclass(frozen=True, slots=True)
class Payload:
    """What to send to a model, as files; several are sent in turn.

    Attributes:
        path: of the model, in whatever dialect; `headers` go with it, as `Name:value`. wrk alone sends another one.
    """

    model: str
    files: tuple[Path, ...]
    content_type: str = RAW
    path: str = PREDICT
    headers: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """The path with the model's name."""
        return self.path.format(model=self.model)


class Generator:
    """Sends requests through HTTP: closed loops with wrk where it is installed, else with `loadgen`."""

    def __init__(self, folder: Path) -> None:
        self._wrk = shutil.which("wrk")
        self._folder = folder

    @property
    def name(self) -> str:
        """Which one sends closed loops, with its version."""
        if self._wrk is None:
            return "loadgen"
        # wrk prints its version together with its usage, and ends with 1.
        text = subprocess.run([self._wrk, "-v"], capture_output=True, text=True, check=False).stdout
        match = re.match(r"wrk \S*?(\d+\.\d+\.\d+)", text)
        return f"wrk {match[1]}" if match else "wrk"

    def command(self, payload: Payload, connections: int) -> str:
        """Return the command line of a closed loop, as the tables show it."""
        if self._wrk is None:
            return f"`python -m loadgen run --model {payload.model} --concurrency {connections} …`"
        files = "FILE" if len(payload.files) == 1 else "FILES"
        sent = " ".join((payload.content_type, *payload.headers, files))
        return f"`wrk -t1 -c{connections} -s {wrk.SCRIPT} URL{payload.target} -- {sent}`"

    def closed(
        self, url: str, payload: Payload, connections: int, seconds: float, pids: Mapping[str, int] | None = None
    ) -> Window:
        """Keep so many requests under way for a while.

        Args:
            pids: processes whose processor time per request is wanted, by name.

        Raises:
            BenchError: no figures came of it.
        """
        before = {name: processes.cpu_s(pid) for name, pid in (pids or {}).items()}
        window = self._closed(url, payload, connections, seconds)
        used_s = {name: processes.cpu_s(pid) - before[name] for name, pid in (pids or {}).items()}
        return replace(window, cpu_us={name: s * 1e6 / max(window.requests, 1) for name, s in used_s.items()})

    def _closed(self, url: str, payload: Payload, connections: int, seconds: float) -> Window:
        if self._wrk is None and payload.path == PREDICT:
            return self._loadgen(url, payload, ["--concurrency", str(connections)], seconds, 0.0)
        return self.closed_at(f"{url}{payload.target}", payload, connections, seconds)

    def closed_at(self, address: str, payload: Payload, connections: int, seconds: float) -> Window:
        """Do the same at any address, for which wrk is needed.

        Raises:
            BenchError: wrk is not installed, or no figures came of it.
        """
        if self._wrk is None:
            raise BenchError("wrk is not on the PATH; install it (apt install wrk, brew install wrk).")
        sent = (payload.content_type, payload.files, connections, seconds, payload.headers)
        argv = wrk.argv(self._wrk, address, *sent)
        try:
            return wrk.parse(run(argv, seconds + _SPARE_S))
        except ValueError as error:
            raise BenchError(str(error)) from None

    def endless(self, url: str, payload: Payload, connections: int) -> AbstractContextManager[object]:
        """Return a context in which so many requests are always under way; without wrk nothing is sent in it."""
        if self._wrk is None:
            return nullcontext()
        address = f"{url}/v1/models/{payload.model}/predict"
        argv = wrk.argv(self._wrk, address, payload.content_type, payload.files, connections, _ENDLESS_S)
        return Process(argv[1:], clean_environment(), argv[0])

    def open(self, url: str, payload: Payload, rate_per_s: float, seconds: float, warm_up_s: float = 1.0) -> Window:
        """Send at a rate, whatever comes back: `loadgen run --rate`, Poisson arrivals from a seed."""
        return self._loadgen(url, payload, ["--rate", f"{rate_per_s:g}"], seconds, warm_up_s)

    def _loadgen(self, url: str, payload: Payload, load: list[str], seconds: float, warm_up_s: float) -> Window:
        argv = [sys.executable, "-m", "loadgen", "run", "--url", url, "--model", payload.model]
        argv += [part for file in payload.files for part in ("--payload", str(file))]
        argv += ["--content-type", payload.content_type, "--duration", f"{seconds:g}s", "--warmup", f"{warm_up_s:g}s"]
        run([*argv, *load, "--out", str(self._folder)], seconds + warm_up_s + _SPARE_S)
        return from_run(read(self._folder / "run.json", RunFile))


def produce(stack: Stack, payload: Payload, seconds: float, **more: Any) -> Window:
    """Keep the queue full without HTTP, by `python -m tests.perf.programs.direct`; only verified answers count."""
    job = direct.Job(
        url=stack.redis_url, model=payload.model, body=str(payload.files[0]), content_type=payload.content_type,
        seconds=seconds, metrics=stack.metrics_urls(payload.model), **more,
    )  # fmt: skip
    argv = [sys.executable, "-m", "tests.perf.programs.direct", msgspec.json.encode(job).decode()]
    output = run(argv, seconds + job.warm_up_s + 3 * _SPARE_S)
    return from_outcome(msgspec.json.decode(output.strip().splitlines()[-1], type=direct.Outcome))


def from_outcome(found: direct.Outcome) -> Window:
    """Return the window that the direct producer describes. Pure.

    Raises:
        BenchError: the replies that were looked for are not stored.
    """
    if not found.durable:
        raise BenchError("The last replies were not found under their keys: they are not stored.")
    stages = found.stages
    return Window(
        requests=found.items,
        failed=found.failed,
        rate_per_s=found.items / found.seconds,
        mean_ms=found.mean_ms,
        p50_ms=found.p50_ms,
        p99_ms=found.p99_ms,
        busy_share=None if stages is None else stages.busy_share,
        batch_rows=None if stages is None else stages.batch_rows,
        stages_ms={} if stages is None else stages.stages_ms,
    )


def told(window: Window) -> str:
    """One line of progress. Pure."""
    mean, p99 = (f"{value:.2f} ms" if value is not None else "-" for value in (window.mean_ms, window.p99_ms))
    busy = "" if window.busy_share is None else f", busy {window.busy_share:.0%}"
    rows = "" if window.batch_rows is None else f", {window.batch_rows:.1f} rows a batch"
    failed = f", {window.failed} FAILED" if window.failed else ""
    return f"{window.rate_per_s:,.0f}/s, mean {mean}, p99 {p99}{busy}{rows}{failed}"
