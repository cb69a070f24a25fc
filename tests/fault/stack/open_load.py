"""Load from a process of its own: what `python -m loadgen run` saw, request by request."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from loadgen.results import files, stats
from loadgen.results.runfile import RunFile
from tests.children import ROOT, clean_environment


def load(url: str, model: str, payload: bytes, folder: Path, *options: str) -> RunFile:
    """Send a load and return the result file; ``options`` are those of `loadgen run`."""
    folder.mkdir(parents=True, exist_ok=True)
    sent = folder / "payload.bin"
    sent.write_bytes(payload)
    command = [sys.executable, "-m", "loadgen", "run", "--url", url, "--model", model, "--payload", str(sent)]
    done = subprocess.run(
        [*command, "--out", str(folder), *options], cwd=ROOT, env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return files.read(folder / "run.json", RunFile)


def answered_per_s(run: RunFile) -> float:
    """Answers per second, from the first one to the end of the measured time.

    Not from the beginning of that time: the requests that are answered first belong to the warm-up, which is not in
    the file.
    """
    requests = run.requests
    kinds = [name.kind for name in requests.outcomes]
    pairs = zip(requests.done_us, requests.outcome, strict=True)
    end_us = run.configuration.duration_s * 1e6
    done_us = [done for done, outcome in pairs if kinds[outcome] == "ok" and done < end_us]
    return len(done_us) / (end_us - min(done_us)) * 1e6


def latencies_ms(run: RunFile, *statuses: int) -> list[float]:
    """Sorted times from sending a request to its end, of those that ended with one of ``statuses``."""
    requests = run.requests
    of = [name.status if name.kind == "http" else 200 if name.kind == "ok" else None for name in requests.outcomes]
    rows = zip(requests.sent_us, requests.done_us, requests.outcome, strict=True)
    return sorted((done - sent) / 1000 for sent, done, outcome in rows if of[outcome] in statuses and sent is not None)


def percentile_ms(ordered: list[float], share: float) -> float:
    """The smallest of the values with at least ``share`` of them at or below it."""
    return stats.percentile(ordered, share)
