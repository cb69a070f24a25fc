"""The budgets file: a `[models.NAME]` table each with load and budgets, and optional `[gate]` settings. Pure."""

from __future__ import annotations

import tomllib
from typing import Annotated

import msgspec

from .errors import EXIT_USAGE, LoadgenError
from .results.paired import MOST_PAIRS
from .results.stats import smallest_count
from .workloads.spec import Workload

LEAST_REQUESTS = smallest_count()
_CHAT_PAIRS = 10
"""With fewer no flag could be raised: 6 times the smallest p of nine pairs, 1 in 512, is more than 0.01."""

_Milliseconds = Annotated[float, msgspec.Meta(gt=0, le=86_400_000)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_Rate = Annotated[float, msgspec.Meta(gt=0, le=1_000_000)]
_Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
_Tolerance = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Margin = Annotated[float, msgspec.Meta(gt=0, le=10)]


class Percentiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Budgets of percentiles in milliseconds; None where there is none."""

    p95: _Milliseconds | None = None
    p99: _Milliseconds | None = None

    def __post_init__(self) -> None:
        if not self.limits:
            raise ValueError("give p95, p99 or both")

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Each budget, with the share that it is for."""
        both = ((0.95, self.p95), (0.99, self.p99))
        return tuple((share, limit) for share, limit in both if limit is not None)


class ModelBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Budgets of one model and the load they hold for. Latency counts from the planned send time.

    `mean_ms`, `p95_ms`: None where there is none. `rate_per_s`: the load under which they hold; a run at less proves
    nothing. `duration_s`: how long the gate measures. `payload`: what to send, files or folders seen from the budgets
    file's folder. `precision`: what must be served. `window_s`, `window_rate_per_s`, `offline_requests`,
    `concurrency`: one window of the comparison sends the planned load for so long (at another rate, if one is given),
    and then so many requests as fast as so many at a time allow. `answers_within`: how far the candidate's answers may
    lie from the base's, as a share of the largest number (see `answers.py`). `answers_compared`: false for a model that
    never answers twice alike.

    `workload`: what to send instead of a payload. `ttft_ms`, `itl_ms`: budgets of a chat's time to first token and time
    between tokens. `goodput`: the least share of requests that must meet the workload's objectives.
    """

    mean_ms: _Milliseconds | None = None
    p95_ms: _Milliseconds | None = None
    rate_per_s: _Rate | None = None
    duration_s: _Seconds = 50.0
    payload: str | list[str] | None = None
    precision: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    window_s: _Seconds = 3.0
    window_rate_per_s: _Rate | None = None
    offline_requests: Annotated[int, msgspec.Meta(ge=2, le=1_000_000)] = 64
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 16
    answers_within: _Tolerance = 0.01
    answers_compared: bool = True
    workload: Workload | None = None
    ttft_ms: Percentiles | None = None
    itl_ms: Percentiles | None = None
    goodput: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None

    def __post_init__(self) -> None:
        if self.payload is not None and self.workload is not None:
            raise ValueError("give payload or workload, not both")
        of_chats = [name for name in ("ttft_ms", "itl_ms", "goodput") if getattr(self, name) is not None]
        if of_chats and (self.workload is None or self.workload.kind != "chat"):
            raise ValueError(f"{of_chats[0]} needs a workload of the kind chat")
        if self.payload is not None and not all(self.payloads):
            raise ValueError("payload must name a file or a list of files")
        if self.mean_ms is None and self.p95_ms is None and not of_chats:
            raise ValueError("give mean_ms, p95_ms or both")

    @property
    def payloads(self) -> tuple[str, ...]:
        """The payload as paths, none when it is not given."""
        if self.payload is None:
            return ()
        return (self.payload,) if isinstance(self.payload, str) else tuple(self.payload) or ("",)


class GateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a measurement is fit to be judged, and what counts as a regression.

    `min_requests` may raise the least number of measured requests, `min_rate_share` is the share of the planned rate
    that must have been sent, `max_pacing_lag_ms` bounds the 99th percentile of the generator's own lateness,
    `max_cpu_share` the part of a core it may have used.

    A regression is a ratio of candidate to base beyond 1 + `mean_margin`, 1 + `p95_margin`, or below
    1 - `throughput_margin`, that is not chance; of chats also one beyond 1 + `ttft_margin`, 1 + `itl_margin`, or below
    1 - `goodput_margin`. `pairs` are measured, up to `most_pairs` while the ratio is known no
    better than within `too_noisy`.
    """

    min_requests: Annotated[int, msgspec.Meta(ge=LEAST_REQUESTS)] = LEAST_REQUESTS
    min_rate_share: _Share = 0.95
    max_pacing_lag_ms: _Milliseconds = 100.0
    max_cpu_share: _Share = 0.8
    mean_margin: _Margin = 0.05
    p95_margin: _Margin = 0.10
    throughput_margin: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    ttft_margin: _Margin = 0.10
    itl_margin: _Margin = 0.10
    goodput_margin: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05
    too_noisy: _Margin = 0.15
    pairs: Annotated[int, msgspec.Meta(ge=9, le=MOST_PAIRS)] = 10
    most_pairs: Annotated[int, msgspec.Meta(ge=9, le=MOST_PAIRS)] = 20

    def __post_init__(self) -> None:
        if self.most_pairs < self.pairs:
            raise ValueError("most_pairs must not be below pairs")


class Budgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    models: dict[str, ModelBudget]
    gate: GateSettings = msgspec.field(default_factory=GateSettings)

    def __post_init__(self) -> None:
        chats = [name for name, model in self.models.items() if model.workload and model.workload.kind == "chat"]
        if chats and self.gate.pairs < _CHAT_PAIRS:
            raise ValueError(
                f"pairs must be {_CHAT_PAIRS} or more to compare the six figures of a chat such as {chats[0]}"
            )


def parse_budgets(text: str, name: str) -> Budgets:
    """Return the budgets in a TOML text.

    Args:
        name: of the file, for the error.

    Raises:
        LoadgenError: usage, with a sentence naming the key that is wrong.
    """
    try:
        return msgspec.convert(tomllib.loads(text), Budgets)
    except tomllib.TOMLDecodeError as error:
        raise LoadgenError(f"{name} is not TOML: {error}.", EXIT_USAGE) from error
    except msgspec.ValidationError as error:
        raise LoadgenError(f"{name} is not a budgets file: {error}.", EXIT_USAGE) from error


def loosened(base: Budgets, now: Budgets) -> tuple[str, ...]:
    """Say what is easier to pass with the budgets of now than with those of the base; empty when nothing is.

    For payload, window rate and concurrency there is no easier or harder: report each change.
    """
    found = []
    for model, before in sorted(base.models.items()):
        after = now.models.get(model)
        if after is None:
            found.append(f"The budgets of {model!r} were removed.")
        else:
            found += [f"{model}: {what}." for what in (*_loosened_limits(before, after), *_changed_load(before, after))]
    for name, easier in _EASIER.items():
        was, is_now = getattr(base.gate, name), getattr(now.gate, name)
        if (is_now - was) * easier > 0:
            found.append(f"gate: {name} was loosened from {was:g} to {is_now:g}.")
    return tuple(found)


def _loosened_limits(before: ModelBudget, after: ModelBudget) -> list[str]:
    found = []
    for name in ("mean_ms", "p95_ms"):
        was, is_now = getattr(before, name), getattr(after, name)
        if was is not None and (is_now is None or is_now > was):
            found.append(f"{name} was loosened from {was:g} to {_said(is_now)}")
    found += _loosened_percentiles(before, after)
    if before.goodput is not None and (after.goodput or 0) < before.goodput:
        found.append(f"goodput was loosened from {before.goodput:g} to {_said(after.goodput)}")
    if after.answers_within > before.answers_within:
        found.append(f"answers_within was loosened from {before.answers_within:g} to {after.answers_within:g}")
    if before.answers_compared and not after.answers_compared:
        found.append("answers are not compared any more")
    return found


def _loosened_percentiles(before: ModelBudget, after: ModelBudget) -> list[str]:
    found = []
    for name in ("ttft_ms", "itl_ms"):
        for percentile in ("p95", "p99"):
            was, is_now = (getattr(getattr(budget, name), percentile, None) for budget in (before, after))
            if was is not None and (is_now is None or is_now > was):
                found.append(f"{name} {percentile} was loosened from {was:g} to {_said(is_now)}")
    return found


def _changed_load(before: ModelBudget, after: ModelBudget) -> list[str]:
    found = []
    if before.rate_per_s and (after.rate_per_s or 0) < before.rate_per_s:
        found.append(f"the rate was lowered from {before.rate_per_s:g}/s to {after.rate_per_s or 0:g}/s")
    if before.precision and after.precision != before.precision:
        found.append(f"the precision was changed from {before.precision} to {after.precision or 'any'}")
    if before.payload is not None and after.payloads != before.payloads:
        found.append(
            f"the payload was changed from {', '.join(before.payloads)} to {', '.join(after.payloads) or 'any'}"
        )
    if before.workload is not None and after.workload != before.workload:
        changed = ", ".join(
            name
            for name in before.workload.__struct_fields__
            if getattr(before.workload, name) != getattr(after.workload, name, None)
        )
        found.append(f"the workload was changed in {changed}" if after.workload else "the workload was removed")
    for name in ("duration_s", "window_s", "offline_requests"):
        was, is_now = getattr(before, name), getattr(after, name)
        if is_now < was:
            found.append(f"{name} was lowered from {was:g} to {is_now:g}")
    for name in ("window_rate_per_s", "concurrency"):
        was, is_now = getattr(before, name), getattr(after, name)
        if is_now != was:
            found.append(f"{name} was changed from {_said(was)} to {_said(is_now)}")
    return found


def _said(value: float | None) -> str:
    return "nothing" if value is None else f"{value:g}"


_EASIER = {
    "min_requests": -1,
    "min_rate_share": -1,
    "max_pacing_lag_ms": 1,
    "max_cpu_share": 1,
    "mean_margin": 1,
    "p95_margin": 1,
    "throughput_margin": 1,
    "ttft_margin": 1,
    "itl_margin": 1,
    "goodput_margin": 1,
    "too_noisy": 1,
    "pairs": -1,
    "most_pairs": 1,
}
"""Settings that make the gate easier to pass when they grow (1) or shrink (-1)."""
