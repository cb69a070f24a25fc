"""Documents of the console's endpoints, as large or as hostile as a test wants them. Pure."""

from __future__ import annotations

import math
from typing import Any

HOSTILE = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>\u202e\'"`&{{x}}'
"""A name that runs where a page takes it for markup."""


def figures(at_s: float) -> dict[str, Any]:
    """Make what a model does at a moment: the past and the present are of one piece."""

    def wave(base: float, swing: float, period_s: float) -> float:
        return base + swing * math.sin(at_s / period_s) + swing * 0.35 * math.sin(at_s * 6.1 / period_s)

    load = wave(0, 1, 210)
    return {
        "rate": 412 + 71 * load,
        "errors_rate": max(0.0, wave(-0.6, 0.8, 170)),
        "p50_ms": 8.4 + 1.2 * load,
        "p95_ms": 18.1 + 4 * load,
        "p99_ms": 27.3 + 8 * load + wave(0, 1.1, 37),
        "depth": max(0, round(14 + 9 * load)),
        "busy": 0.71 + 0.13 * load,
        "batch": 6.2 + 2.1 * load,
        "goodput": min(1.0, 0.996 + wave(0, 0.003, 90)),
    }


def model(name: str, at_s: float, number: int = 0, **changed: Any) -> dict[str, Any]:
    """Make the line of a model in the list."""
    found = figures(at_s + 977 * number)
    return {
        "name": name,
        "version": "1",
        "state": "ready",
        "serving": "open",
        "ready": True,
        "workers": 2,
        **found,
        "rate": found["rate"] / (1 + 2 * number),
        "dead": 0,
        **changed,
    }


def worker(number: int, **changed: Any) -> dict[str, Any]:
    """Make a worker."""
    return {
        "name": f"worker-{number:03}",
        "host": f"node-{number % 7}",
        "device": "cpu",
        "runtime": "openvino",
        "precision": "bf16",
        "version": "1",
        "busy": 0.5 + (number % 5) / 10,
        "batch": 5.4,
        "fixed_ms": 1.9,
        "per_row_ms": 0.71,
        "unit": "row",
        "slots": None,
        "running": None,
        "tokens_per_s": None,
        "serving": "open",
        "late_s": 0.0,
        "seen_ms": 0,
        **changed,
    }


def hostile_worker(number: int, text: str) -> dict[str, Any]:
    """Make a worker all of whose words are the same text."""
    words = ("host", "device", "runtime", "precision", "version", "serving", "unit")
    return worker(number, name=f"worker-{number:03} {text}", **dict.fromkeys(words, text))


def lane(name: str, **changed: Any) -> dict[str, Any]:
    """Make a lane."""
    return {
        "name": name,
        "kind": "ordinary",
        "limit": 2000,
        "weight": 1,
        "depth": 3,
        "running": 8,
        "paused": False,
        "rate": 59.2,
        "bytes": 131_072,
        "bytes_limit": 67_108_864,
        "dead": 0,
        "oldest_s": 0.02,
        **changed,
    }


def state(
    at_ms: int, chosen: str, *, models: int = 3, workers: int = 2, lanes: int = 2, text: str = ""
) -> dict[str, Any]:
    """Make the document of ``/console/state``.

    Args:
        text: takes the place of every name and sentence, where there is one.
    """
    names = ["imagenet", "sentiment", "echo"][:models] + [f"model-{number:02}" for number in range(3, models)]
    if text:
        names = [f"{name} {text}" for name in names]
    listed = [model(name, at_ms / 1000, n, dead=0 if n else 3) for n, name in enumerate(names)]
    found = next((one for one in listed if one["name"] == chosen), None)
    detail_depth = found["depth"] if found else 0
    listed_lanes = [
        lane("default", depth=detail_depth - detail_depth // 3, rate=331.0),
        lane("nightly", kind="batch", depth=detail_depth // 3, running=4, rate=81.0, oldest_s=412.0, bytes=2_900_000),
        *(lane(f"lane-{n:02}{text}", dead=n % 3) for n in range(2, lanes)),
    ]
    detail = found and {
        **found,
        "workers": [hostile_worker(n, text) if text else worker(n) for n in range(workers)],
        "lanes": listed_lanes[:lanes],
        "cache": None,
    }
    reasons = [{"level": "warn", "what": text, "do": text}] if text else []
    return {
        "at_ms": at_ms,
        "redis": {"ok": True, "memory_used": 41_000_000, "memory_limit": 1_000_000_000},
        "health": {"level": "warn" if reasons else "ok", "reasons": reasons},
        "models": listed,
        "model": detail,
    }


def history(end_s: int, minutes: int, points: int) -> dict[str, Any]:
    """Make the document of ``/console/history``."""
    step = max(10, minutes * 60 // points)
    at = list(range(end_s - minutes * 60, end_s, step))
    rows = [figures(one) for one in at]
    names = {"errors": "errors_rate"}
    keys = ("rate", "errors", "p50_ms", "p95_ms", "p99_ms", "depth", "busy", "batch", "goodput")
    return {"step_s": step, "at_s": at, **{key: [row[names.get(key, key)] for row in rows] for key in keys}}


def letter(number: int, text: str = "") -> dict[str, Any]:
    """Make a dead letter."""
    return {
        "id": f"{1_700_000_000_000 - number}-0",
        "request_id": text or f"9efb23c2469511d3{number:08x}",
        "lane": text or "default",
        "at_ms": 1_700_000_000_000 - number * 1000,
        "reason": text or ("The model raised RuntimeError." if number % 3 else "Its consumers died three times."),
        "attempts": 3,
        "bytes": 51_200 + number,
        "content_type": text or "image/jpeg",
    }


def job(number: int, text: str = "") -> dict[str, Any]:
    """Make a bulk batch."""
    done = min(10_000, 3_400 + number * 3_300)
    return {
        "id": text or f"batch_{number:012x}",
        "model": "imagenet",
        "lane": text or "nightly",
        "state": text or ("completed" if done == 10_000 else "running"),
        "total": 10_000,
        "done": done,
        "failed": number,
        "percent": done / 100,
        "rate_per_s": 310.0,
        "ends_at": 1_700_000_000.0,
        "deadline": 1_700_000_900.0,
        "reason": text,
    }


def explained(request_id: str, text: str = "") -> dict[str, Any]:
    """Make the document of ``/console/requests/{id}``."""
    spans = {"admission": 0.4, "queue": 3.1, "company": 2.2, "decode": 1.8, "run": 9.6, "commit": 0.5, "way_back": 0.7}
    return {
        "found": [
            {
                "model": text or "imagenet",
                "lane": text or "default",
                "id": request_id,
                "state": text or "answered",
                "outcome": text or "ok",
                "attempt": 1,
                "worker": text or "worker-000",
                "batch": {"id": text or "b-17", "rows": 6, "reason": text or "window", "of_batch_lane": False},
                "at_ms": 1_700_000_000_000,
                "spans": [{"name": name, "ms": ms} for name, ms in spans.items()]
                + ([{"name": text, "ms": 1.0}] if text else []),
                "total_ms": 18.6,
                "front_end": text or "front-0",
                "trace_id": text or "4bf92f3577b34da6a3ce929d0e0e4736",
            }
        ]
    }
