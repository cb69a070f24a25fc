"""What the consumers say of themselves between two moments: how busy, how large the batches, how long each stage."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Sequence

import msgspec

from loadgen.load.exposition import Samples, parse_exposition

_STAGES = "headrace_stage_duration_seconds"
_PER_REQUEST = {"queue": "headrace_queue_wait_seconds", "wait": "headrace_batch_wait_seconds"}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Between two readings of all consumers of a model.

    `busy_share` is the mean over the consumers; `stages_ms` means: `queue` and `wait` of requests, the rest of batches.
    """

    busy_share: float
    batch_rows: float | None
    stages_ms: dict[str, float]


def read(url: str) -> Samples:
    """[I/O] Read `/metrics` of one process."""
    with urllib.request.urlopen(f"{url.removesuffix('/metrics')}/metrics", timeout=5) as response:
        return parse_exposition(response.read().decode())


def change(before: Sequence[Samples], after: Sequence[Samples], wall_s: float) -> Change:
    """Return what happened between two readings that lie `wall_s` apart. Pure."""

    def grown(name: str, stage: str | None = None) -> tuple[float, float]:
        """By how much the sum and the count of a histogram grew, over all consumers."""
        return tuple(  # type: ignore[return-value]
            _total(after, f"{name}_{part}", stage) - _total(before, f"{name}_{part}", stage)
            for part in ("sum", "count")
        )

    run_s, _ = grown(_STAGES, "inference")
    rows, batches = grown("headrace_batch_size")
    stages = {stage: grown(_STAGES, stage) for stage in ("decode", "inference", "postprocess", "commit")}
    stages |= {label: grown(name) for label, name in _PER_REQUEST.items()}
    return Change(
        # Runs are counted when they are committed, so at the edges up to a batch too many or too few.
        busy_share=min(1.0, run_s / (wall_s * max(len(after), 1))),
        batch_rows=rows / batches if batches else None,
        stages_ms={name: total / count * 1000 for name, (total, count) in stages.items() if count},
    )


def running(samples: Samples) -> str:
    """Return what a consumer runs, in words; empty while it is not tuned. Pure."""
    values = {name: value for (name, _), value in samples.items()}
    if not values.get("headrace_model_tuned"):
        return ""
    labels = next(dict(labels) for name, labels in samples if name == "headrace_model_info")
    preferred = values.get("headrace_batch_preferred_rows", 0.0)
    return f"{labels.get('runtime', '?')} in {labels['precision']}, {preferred:g} rows"


def _total(samples: Iterable[Samples], name: str, stage: str | None) -> float:
    return sum(
        value
        for one in samples
        for (sample, labels), value in one.items()
        if sample == name and (stage is None or ("stage", stage) in labels)
    )
