"""The budgets file: `[models.NAME]` tables with `mean_ms` and `p95_ms`, and optional `[gate]` settings. Pure."""

from __future__ import annotations

import tomllib
from typing import Annotated

import msgspec

from .errors import EXIT_USAGE, LoadgenError
from .stats import smallest_count

LEAST_REQUESTS = smallest_count()

_Milliseconds = Annotated[float, msgspec.Meta(gt=0, le=86_400_000)]
_Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class ModelBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latency budgets of one model, from the planned send time; None where there is none."""

    mean_ms: _Milliseconds | None = None
    p95_ms: _Milliseconds | None = None

    def __post_init__(self) -> None:
        if self.mean_ms is None and self.p95_ms is None:
            raise ValueError("give mean_ms, p95_ms or both")


class GateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a run is fit to be judged.

    `min_requests` may raise the least number of measured requests, `min_rate_share` is the share of the planned rate
    that must have been sent, `max_pacing_lag_ms` bounds the 99th percentile of the generator's own lateness.
    """

    min_requests: Annotated[int, msgspec.Meta(ge=LEAST_REQUESTS)] = LEAST_REQUESTS
    min_rate_share: _Share = 0.95
    max_pacing_lag_ms: _Milliseconds = 100.0


class Budgets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    models: dict[str, ModelBudget]
    gate: GateSettings = msgspec.field(default_factory=GateSettings)


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
