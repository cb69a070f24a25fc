"""`make bench`: measure this machine. Options in, files out; the measurements are in sections/.

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
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import msgspec

from loadgen.results.machine import current_commit, describe_machine
from shared.redis.embedded import find_server
from tests.children import ROOT, ask_ourselves_directly
from tests.perf import load, processes, rooms
from tests.perf.context import Bench, Found, Skipped
from tests.perf.report import charts, document, tables
from tests.perf.report.figures import Results, Section
from tests.perf.stack import WORK, BenchError, chosen_settings

RESULTS = WORK / "results.json"
QUICK_RESULTS = WORK / "quick.json"
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
PICTURES = ROOT / "docs" / "img"
RUNTIMES_PAGE = ROOT / "docs" / "runtimes.md"
_PACKAGES = (
    *tables.RUNTIME_PACKAGES,
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "redis",
    "msgspec",
    "prometheus-client",
)
_BUSY_LOAD_PER_CORE = 0.5


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", metavar="SECTIONS", help=f"Measure only these: {', '.join(rooms.ROOMS)}.")
@click.option("--quick", is_flag=True, help="Short windows: to see that everything works, not to be quoted.")
@click.option("--write", is_flag=True, help="Put tables and pictures into docs/ and README.md.")
@click.option("--render", is_flag=True, help="Measure nothing; print (or write) the results that there are.")
def main(only: str | None, quick: bool, write: bool, render: bool) -> None:
    """Measure this machine, in about twenty minutes. Sections that are left out keep the figures of their last run."""
    ask_ourselves_directly()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    os.chdir(ROOT)
    path = QUICK_RESULTS if quick else RESULTS
    try:
        names = rooms.chosen(only)
        results = _read(path) if render else _measure(names, quick, path)
        if write:
            _write(results)
    except (BenchError, ValueError) as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("\nbench: stopped; everything it had started has ended. Finished sections are kept.", err=True)
        sys.exit(130)
    click.echo(tables.text(results, list(results.sections) if render and only is None else names))


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _measure(names: Sequence[str], quick: bool, path: Path) -> Results:
    began_s, ticks, machine = time.monotonic(), processes.machine_ticks(), describe_machine()
    WORK.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="files-", dir=WORK))

    def say(line: str) -> None:
        click.echo(f"[{time.monotonic() - began_s:4.0f} s] {line}", err=True)

    generator = load.Generator(folder)
    results = Results(
        machine=machine,
        versions={**_versions(), "server": _server()},
        generator=generator.name,
        steal_share=None,
        sections=_earlier(path, say),
    )
    say(f"measuring {', '.join(names)}; closed loops by {generator.name}")
    try:
        for name in names:
            notes = _remarks(generator, machine.load_1m, machine.cpus)
            bench = Bench(quick, chosen_settings(os.environ), folder, say, generator, notes)
            found = {**results.sections, name: _section(name, bench)}
            ordered = {known: found[known] for known in rooms.ROOMS if known in found}
            results = msgspec.structs.replace(results, sections=ordered, steal_share=_steal_share(ticks))
            path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"written to {path.relative_to(ROOT)}")
    return results


def _earlier(path: Path, say: Callable[[str], None]) -> dict[str, Section]:
    """The sections of earlier runs, which those of this one replace. What another version wrote is of no use."""
    if not path.exists():
        return {}
    try:
        return _read(path).sections
    except BenchError as error:
        say(f"{error} Starting afresh.")
        return {}


def _section(name: str, bench: Bench) -> Section:
    began_s, started_at, room = time.monotonic(), datetime.now(UTC), rooms.ROOMS[name]
    bench.say(f"--- {room.title}")
    try:
        found = room.measure(bench)
    except Skipped as reason:
        bench.say(str(reason))
        bench.notes[:], found = [str(reason)], Found()
    except BenchError as error:
        # The others are measured all the same: a long run must not be lost for one that fails.
        bench.say(f"NOT MEASURED: {error}")
        bench.notes.append(f"Not measured: {error}")
        found = Found()
    return Section(
        name=name,
        title=room.title,
        started_at=started_at.isoformat(timespec="seconds"),
        took_s=time.monotonic() - began_s,
        quick=bench.quick,
        commit=current_commit(),
        settings=found.settings,
        figures=[figure for figure in found.figures if figure.values],
        charts=found.charts,
        tables=found.tables,
        notes=bench.notes,
        kind=found.kind,
    )


def _remarks(generator: load.Generator, load_1m: float | None, cpus: int | None) -> list[str]:
    found = []
    if generator.name == "loadgen":
        found.append("wrk is not on the PATH: loadgen sent the closed loops and took a good part of a core for it.")
    if load_1m is not None and load_1m > _BUSY_LOAD_PER_CORE * (cpus or 1):
        found.append(f"The machine was busy with other things when the run began: load {load_1m:.1f}.")
    return found


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):  # OpenVINO is an extra
            found[package] = importlib.metadata.version(package)
    return found


def _server() -> str:
    text = load.run([str(find_server()), "--version"], 10.0)
    return " ".join(text.split()[:3])


def _steal_share(before: tuple[int, int] | None) -> float | None:
    after = processes.machine_ticks()
    if before is None or after is None or after[1] <= before[1]:
        return None
    return (after[0] - before[0]) / (after[1] - before[1])


def _read(path: Path) -> Results:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except FileNotFoundError:
        raise BenchError("There are no results yet; run `make bench` first.") from None
    except msgspec.MsgspecError as error:
        told = f"{path.relative_to(ROOT)} cannot be read ({error}); it is of another version."
        raise BenchError(told) from None


def _write(results: Results) -> None:
    """Every section that there is, and every picture; those that were not measured here stay as they are."""
    titles = [rooms.ROOMS[name].title for name in rooms.documented()]
    for section in (results.sections[name] for name in rooms.documented() if name in results.sections):
        part = tables.section_block(section, tables.place(results))
        _put_part(PAGE, section.title, part, document.BENCH, titles)
    if "peers" in results.sections:
        _put(PAGE, tables.block(results, ["peers"]), document.PEERS)
    if "batching" in results.sections:
        _put(README, tables.batching_block(results), document.BATCHING)
    if (runtimes := results.sections.get("runtimes")) and runtimes.kind:
        _put_part(RUNTIMES_PAGE, runtimes.kind, tables.runtimes_part(results), document.RUNTIMES)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for section in results.sections.values():
        quick = "; made with --quick, not to be quoted" if section.quick else ""
        told = f"{results.machine.cpus} cores, everything on them; {section.started_at[:10]}{quick}"
        for name, picture in charts.files(section.charts, told).items():
            (PICTURES / name).write_text(picture, "utf-8")
    told = " and ".join(str(path.relative_to(ROOT)) for path in (PAGE, README, RUNTIMES_PAGE, PICTURES))
    click.echo(f"written to {told}", err=True)


def _put(path: Path, block: str, between: tuple[str, str]) -> None:
    _edit(path, lambda text: document.replace_block(text, block, between))


def _put_part(path: Path, title: str, part: str, between: tuple[str, str], order: Sequence[str] = ()) -> None:
    _edit(path, lambda text: document.replace_part(text, title, part, between, order))


def _edit(path: Path, change: Callable[[str], str]) -> None:
    try:
        path.write_text(change(path.read_text("utf-8")), "utf-8")
    except ValueError as error:
        raise BenchError(f"{path.relative_to(ROOT)}: {error}") from None


if __name__ == "__main__":
    main()
