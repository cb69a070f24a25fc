"""What a front end says of its models. Pure."""

from __future__ import annotations

import msgspec


class ModelSummary(msgspec.Struct, frozen=True):
    """One model that is served.

    Attributes:
        version, family, precision: None until a consumer has loaded it once.
        workers: live consumers.
        queued: requests that wait or run.
        ready: whether it answers now.
        state: ``ready``, ``loading``, ``draining``, ``silent``, ``failed`` or ``away``.
        ready_in_s: while it loads, the seconds that this will probably take.
    """

    name: str
    version: str | None = None
    family: str | None = None
    precision: str | None = None
    workers: int = 0
    queued: int = 0
    ready: bool = False
    state: str | None = None
    ready_in_s: float | None = None


class ModelList(msgspec.Struct, frozen=True):
    """The body of ``GET /v1/models``."""

    models: tuple[ModelSummary, ...]
