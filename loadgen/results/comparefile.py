"""The shape of `compare.json`; `compare.schema.json` is made from these types. Unset is null and never 0."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from loadgen.workloads.spec import Workload

from .runfile import Amount, Commit, Count, Machine, PayloadInfo, RequestCounter

FORMAT: Final = "headrace-compare"
VERSION: Final = 1

SideName = Literal["base", "candidate"]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the file: every member is always written, no other is allowed."""


class Plan(_Record, frozen=True):
    """What each window does: the planned load for `window_s`, then `offline_requests` as fast as `concurrency` allow.

    `pairs` are measured, more up to `most_pairs` while the ratio is known no better than within `too_noisy`.
    """

    model: str
    rate_per_s: Amount
    arrivals: Literal["poisson", "constant", "gamma"]
    window_s: Amount
    warmup_s: Amount
    offline_requests: Count
    concurrency: Count
    timeout_ms: Amount
    seed: int
    pairs: Count
    most_pairs: Count
    payloads: list[PayloadInfo]
    workload: Workload | None = None


class Side(_Record, frozen=True):
    """One of the two services: what was asked for, and what it says of itself.

    `source` is an address or a checkout, `settings` what it was started with, `commit` the one checked out there.
    `items` is the consumers' own count of requests, `answered` how many answers the generator had.
    """

    source: str
    settings: dict[str, str]
    commit: Commit | None
    version: dict[str, Any] | None
    card: dict[str, Any] | None
    items: RequestCounter | None
    answered: Count


class Window(_Record, frozen=True):
    """One window of one side.

    `scheduled` and `ok` count both parts. `mean_ms` and `p95_ms` are latencies from the planned time, of the first
    part; null when a request failed. `throughput_per_s` is of the second: requests over the time they all took.
    `lag_p95_ms` is how late the generator turned to its requests, `cpu_share` its processor time over wall time, in the
    busier part. `failures` counts requests by how they failed. `ttft_ms`, `itl_ms` (means) and `goodput` (a share)
    belong to the first part of a chat; null when a request failed, and `goodput` always without objectives.
    """

    scheduled: Count
    ok: Count
    failures: dict[str, int]
    mean_ms: float | None
    p95_ms: float | None
    throughput_per_s: float | None
    lag_p95_ms: float | None
    cpu_share: Amount | None
    ttft_ms: float | None = None
    itl_ms: float | None = None
    goodput: Amount | None = None


class Pair(_Record, frozen=True):
    """Two windows right after one another, with the same seed. `batch` 2 is the confirmation."""

    batch: Literal[1, 2]
    seed: int
    first: SideName
    base: Window
    candidate: Window


class Answer(_Record, frozen=True):
    """What the candidate answered to one fixed input, beside what the base did. Each was asked alone and among others.

    `difference` is the least tolerance at which all its answers count as equal to the base's; null: no tolerance does,
    or one of them gave no answer. `what` says where they differ most. `own_difference` is the same among the base's own
    answers. `base_failure`, `candidate_failure` say why there was no answer; null when there was.
    """

    payload: str
    sha256: str
    base_failure: str | None
    candidate_failure: str | None
    difference: Amount | None
    what: str
    own_difference: Amount | None


class CompareFile(_Record, frozen=True):
    """A comparison of two services: their answers to a few fixed inputs, and their speed, pair by pair.

    `answers` is null where they were not asked: they are over HTTP only.
    """

    format: Literal["headrace-compare"]
    version: Literal[1]
    started_at: str
    partial: bool
    plan: Plan
    machine: Machine
    base: Side
    candidate: Side
    answers: list[Answer] | None
    pairs: list[Pair]
