"""[I/O] What the operating system says about processes: children, memory, processor time. /proc, else `ps`."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_CLOCK: Final = re.compile(r"(?:(?:(?P<days>\d+)-)?(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>[\d.]+)")


@dataclass(frozen=True, slots=True)
class Running:
    """A process and its command line."""

    pid: int
    command: str


def children(parent: int) -> list[Running]:
    """Return the direct children of a process."""
    if not _PROC.joinpath("self/stat").exists():
        rows = [line.split(None, 2) for line in _ps("-A", "-o", "pid=,ppid=,command=").splitlines()]
        return [Running(int(row[0]), row[2]) for row in rows if len(row) == 3 and int(row[1]) == parent]
    found = []
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):
            if int(_stat_fields(folder)[1]) == parent:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.append(Running(int(folder.name), command))
    return found


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, shared pages included.

    Raises:
        OSError: there is no such process.
    """
    folder = _PROC / str(pid)
    # smaps_rollup is exact; the figure in status may lag by some pages per thread.
    for name, label in (("smaps_rollup", "Rss:"), ("status", "VmRSS:")):
        with suppress(OSError):
            for line in (folder / name).read_text().splitlines():
                if line.startswith(label):
                    return int(line.split()[1]) * 1024
    return int(_ps("-o", "rss=", "-p", str(pid)) or 0) * 1024


def cpu_s(pid: int) -> float:
    """Return the processor time a process has used, all threads together, in steps of 10 ms.

    Raises:
        OSError: there is no such process.
    """
    folder = _PROC / str(pid)
    if folder.exists():
        fields = _stat_fields(folder)
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return parse_clock_s(_ps("-o", "time=", "-p", str(pid)))


def parse_clock_s(text: str) -> float:
    """Return the seconds in `ps`'s [[days-]hours:]minutes:seconds; 0 for anything else."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return 0.0
    days, hours = int(match["days"] or 0), int(match["hours"] or 0)
    return ((days * 24 + hours) * 60 + int(match["minutes"])) * 60 + float(match["seconds"])


def machine_ticks() -> tuple[int, int] | None:
    """Return (ticks stolen by the host, all ticks) of all cores since boot; None where that is not told."""
    with suppress(OSError, ValueError, IndexError):
        fields = [int(field) for field in _PROC.joinpath("stat").read_text().split("\n", 1)[0].split()[1:9]]
        return fields[7], sum(fields)
    return None


def _stat_fields(folder: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may contain spaces: state, parent, ..."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _ps(*arguments: str) -> str:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout.strip()
