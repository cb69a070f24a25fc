"""h2load's command line and its figures: closed loops over HTTP/2, for gRPC. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.perf.windows import Window

PATH: Final = "/inference.GRPCInferenceService/ModelInfer"

_DONE = re.compile(r"^finished in ([\d.]+)s?, ", re.MULTILINE)
_COUNTS = re.compile(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", re.MULTILINE)
_MEAN = re.compile(r"^time for request: +\S+ +\S+ +([\d.]+)(us|ms|s) ", re.MULTILINE)
_MS: Final = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def argv(
    executable: str, target: str, framed: Path, connections: int, streams: int, duration_s: float
) -> Sequence[str]:
    """Return the command line: one thread, ``streams`` calls of ``ModelInfer`` always under way on each connection.

    Args:
        target: host and port.
        framed: file with the message behind its five bytes of gRPC.
    """
    load = ["-D", str(max(1, round(duration_s))), "-c", str(connections), "-m", str(streams), "-t", "1"]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    return [executable, *load, *headers, "-d", str(framed), f"http://{target}{PATH}"]


def parse(output: str) -> Window:
    """Return the window that h2load describes. It sees HTTP only: whether a call succeeded is for others to check.

    Raises:
        ValueError: it printed no figures, or nothing was answered.
    """
    done, counts, mean = _DONE.search(output), _COUNTS.search(output), _MEAN.search(output)
    if done is None or counts is None or mean is None:
        raise ValueError(f"h2load printed no figures: {output.strip()[-300:] or 'nothing at all'}")
    ok, *failed = (int(count) for count in counts.groups())
    if not ok:
        raise ValueError("h2load had no answer at all.")
    return Window(
        requests=ok,
        failed=sum(failed),
        rate_per_s=ok / float(done[1]),
        mean_ms=float(mean[1]) * _MS[mean[2]],
        p50_ms=None,
        p99_ms=None,
    )
