"""wrk's command line and its figures. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.perf.windows import Window

SCRIPT: Final = "tests/perf/post.lua"

_FIGURES = re.compile(r"^figures (.+)$", re.MULTILINE)
_ERRORS = ("status", "connect", "read", "write", "timeout")


def argv(
    executable: str,
    url: str,
    content_type: str,
    files: Sequence[Path],
    connections: int,
    duration_s: float,
    headers: Sequence[str] = (),
) -> list[str]:
    """Return the command line: one thread, which leaves the other cores to what is measured.

    Args:
        headers: more headers of each request, as ``Name:value``.
    """
    whole_s = max(1, round(duration_s))
    head = [executable, "-t1", f"-c{connections}", f"-d{whole_s}s", "--timeout", "10s", "-s", SCRIPT, url]
    return [*head, "--", content_type, *headers, *(str(file) for file in files)]


def parse(output: str) -> Window:
    """Return the window that the line printed by post.lua describes.

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
        requests=ok,
        failed=sum(int(values[name]) for name in _ERRORS),
        rate_per_s=ok / duration_s,
        mean_ms=values["mean_us"] / 1000,
        p50_ms=values["p50_us"] / 1000,
        p99_ms=values["p99_us"] / 1000,
    )
