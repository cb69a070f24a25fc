"""`make bench`: measure this machine. Options in, files out; the measurements are in sections.py.

Everything is started here, loaded over loopback, and ended here, also after Ctrl-C.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import click
import msgspec

from loadgen.machine import current_commit, describe_machine
from shared.embedded import find_server
from tests.children import ROOT

from . import document, load, picture, processes, sections, tables
from .figures import Results
from .stack import WORK, BenchError, chosen_settings

RESULTS = WORK / "results.json"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
PICTURE = ROOT / "docs" / "img" / "bench-overview.svg"
_PACKAGES = ("torch", "starlette", "uvicorn", "uvloop", "httptools", "redis", "msgspec", "prometheus-client")
_BUSY_LOAD_PER_CORE = 0.5
_LONGEST_S = 320.0
"""No further round of anything starts after this; what is under way may take some seconds more."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Short windows: to see that everything works, not to be quoted.")
@click.option("--write", is_flag=True, help="Put the table into docs/benchmarks.md and draw its picture.")
@click.option("--render", is_flag=True, help="Measure nothing; print (or write) the results of the last run.")
def main(quick: bool, write: bool, render: bool) -> None:
    """Measure start-up, latency, throughput, batching and memory on this machine, in less than six minutes."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    os.chdir(ROOT)
    try:
        results = _read() if render else _measure(quick)
        if write:
            _write(results)
    except BenchError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("\nbench: stopped; everything it had started has ended, and nothing was written.", err=True)
        sys.exit(130)
    click.echo(tables.text(results))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(quick: bool) -> Results:
    began_s, started_at, ticks = time.monotonic(), datetime.now(UTC), processes.machine_ticks()
    machine = describe_machine()
    WORK.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="files-", dir=WORK))

    def say(text: str) -> None:
        click.echo(f"[{time.monotonic() - began_s:4.0f} s] {text}", err=True)

    plan, notes = (sections.QUICK if quick else sections.Plan()), list[str]()
    bench = sections.Bench(plan, chosen_settings(os.environ), folder, say, notes, began_s + _LONGEST_S)
    try:
        generator = load.EchoLoad(folder)
        name = generator.name
        say(
            f"measuring with {name} for echo and loadgen for the models; about {'one minute' if quick else '5 minutes'}"
        )
        if name == "loadgen":
            notes.append("wrk is not on the PATH: loadgen sent the echo load and took a good part of a core for it.")
        if machine.load_1m is not None and machine.load_1m > _BUSY_LOAD_PER_CORE * (machine.cpus or 1):
            notes.append(f"The machine was busy with other things when the run began: load {machine.load_1m:.1f}.")
            say(notes[-1])
        starts = list(sections.starts(bench))
        overheads = list(sections.overheads(bench))
        echo = sections.echo(bench, generator)
        windows = [*echo.windows, *sections.batching(bench)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results = Results(
        started_at=started_at.isoformat(timespec="seconds"),
        took_s=time.monotonic() - began_s,
        quick=quick,
        machine=machine,
        commit=current_commit(),
        versions={**{package: importlib.metadata.version(package) for package in _PACKAGES}, "server": _server()},
        settings=dict(bench.settings),
        echo_settings=sections.echo_settings(bench),
        generator=name,
        steal_share=_steal_share(ticks),
        starts=starts,
        overheads=overheads,
        windows=windows,
        direct=echo.direct,
        resident_bytes=echo.resident_bytes,
        notes=notes,
    )
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    say(f"written to {RESULTS.relative_to(ROOT)}")
    return results


def _server() -> str:
    text = load.run([str(find_server()), "--version"], 10.0)
    return " ".join(text.split()[:3])


def _steal_share(before: tuple[int, int] | None) -> float | None:
    after = processes.machine_ticks()
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def _read() -> Results:
    try:
        return msgspec.json.decode(RESULTS.read_bytes(), type=Results)
    except FileNotFoundError:
        raise BenchError("There are no results yet; run `make bench` first.") from None
    except msgspec.MsgspecError as error:
        raise BenchError(f"{RESULTS.relative_to(ROOT)} cannot be read: {error}.") from None


def _write(results: Results) -> None:
    try:
        DOCUMENT.write_text(document.replace_block(DOCUMENT.read_text("utf-8"), tables.block(results)), "utf-8")
    except ValueError as error:
        raise BenchError(f"{DOCUMENT.relative_to(ROOT)}: {error}") from None
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture.draw(results), "utf-8")
    click.echo(f"written to {DOCUMENT.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)}", err=True)


if __name__ == "__main__":
    main()
