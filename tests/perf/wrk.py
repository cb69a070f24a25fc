"""wrk's command line and its figures. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from .figures import Window

SCRIPT: Final = "tests/perf/echo.lua"

_FIGURES = re.compile(r"^figures (.+)$", re.MULTILINE)
_ERRORS = ("status", "connect", "read", "write", "timeout")


def argv(executable: str, url: str, connections: int, duration_s: float) -> list[str]:
    """Return the command line: one thread, which leaves the other cores to what is measured."""
    whole_s = max(1, round(duration_s))
    return [executable, "-t1", f"-c{connections}", f"-d{whole_s}s", "-s", str(Path(SCRIPT)), url]


def parse(output: str, subject: str, connections: int) -> Window:
    """Return the window that the line printed by echo.lua describes.

    Raises:
        ValueError: there is no such line, or nothing was answered.
    """
    match = _FIGURES.search(output)
    if match is None:
        raise ValueError(f"wrk printed no figures: {output.strip()[-300:] or 'nothing at all'}")
    values = {name: float(value) for name, _, value in (part.partition("=") for part in match[1].split())}
    duration_s, status_errors = values["duration_us"] / 1e6, int(values["status"])
    answered = int(values["requests"])
    if answered == 0 or duration_s <= 0:
        raise ValueError("wrk had no answer at all.")
    ok = answered - status_errors
    return Window(
        subject=subject,
        connections=connections,
        duration_s=duration_s,
        requests=ok,
        failed=sum(int(values[name]) for name in _ERRORS),
        rate_per_s=ok / duration_s,
        mean_ms=values["mean_us"] / 1000,
        p50_ms=values["p50_us"] / 1000,
        p99_ms=values["p99_us"] / 1000,
    )
