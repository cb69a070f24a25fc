"""The shape of the result file `run.json`; `run.schema.json` is made from these types.

Unset is null and never 0. A latency figure is null when nothing was measured, and also when it is infinite because
requests failed; `failed` beside it tells the two apart. Numbers are finite, so every JSON reader takes the file.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from loadgen.workloads.spec import Workload

from .ledger import Kind

FORMAT: Final = "headrace-run"
VERSION: Final = 1

Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the file: every member is always written, no other is allowed."""


class PayloadInfo(_Record, frozen=True):
    """One body that was sent. Equal `sha256` means equal bytes."""

    name: str
    content_type: str
    size_bytes: Count
    sha256: str


class Configuration(_Record, frozen=True):
    """What was asked for. An open loop has `rate_per_s` and `arrivals`, a closed loop `concurrency`; the other is null.

    A ramp also has `rate_end_per_s`, an offline run (a closed loop of a given size) `requests`, `burstiness` belongs to
    gamma arrivals.
    With a `workload`, `payloads` has one entry for all of its bodies.
    `warmup_s` is the time before the measured `duration_s` whose requests are sent and left out of all figures.
    """

    url: str
    model: str
    scenario: Literal["open", "closed", "offline", "ramp"]
    arrivals: Literal["poisson", "constant", "gamma"] | None
    burstiness: Amount | None
    rate_per_s: Amount | None
    rate_end_per_s: Amount | None
    concurrency: Count | None
    requests: Count | None
    duration_s: Amount
    warmup_s: Amount
    seed: int
    timeout_ms: Amount
    max_in_flight: Count
    connections: Count
    payloads: list[PayloadInfo]
    workload: Workload | None = None


class Machine(_Record, frozen=True):
    """Where the generator ran. `load_1m` is the load average over one minute when the run began."""

    system: str
    processor: str | None
    cpus: Count | None
    memory_bytes: Count | None
    python: str
    load_1m: Amount | None


class Commit(_Record, frozen=True):
    """The commit checked out where the generator ran, and whether tracked files differed from it."""

    id: str
    dirty: bool | None


class RequestCounter(_Record, frozen=True):
    """The service's own count of this model's requests.

    `delta` is null when it went backwards or vanished (a restart).
    """

    name: str
    before: Amount
    after: Amount
    delta: Amount | None


class Bucket(_Record, frozen=True):
    """`count` of the values up to `le`, cumulative; a null `le` is the bucket without an upper edge."""

    le: float | None
    count: Amount


class Histogram(_Record, frozen=True):
    """What one of the service's histogram series counted during the run, warm-up included."""

    name: str
    labels: dict[str, str]
    count: Amount
    sum: float
    mean: float | None
    buckets: list[Bucket]


class Service(_Record, frozen=True):
    """What the service says about itself; null where it did not say.

    `requests`, `items` and `histograms` come from its metrics before and after the run and include the warm-up:
    `requests` is the front end's count, `items` the consumers' own. `workers_after` is the number of live workers when
    the run was over; the card has the number before it.
    """

    version: dict[str, Any] | None
    card: dict[str, Any] | None
    workers_after: Count | None
    requests: RequestCounter | None
    items: RequestCounter | None
    histograms: list[Histogram] | None


class HttpFailures(_Record, frozen=True):
    """Answers with a status other than 200, by status and by the code in the error body (null: none)."""

    status: int
    code: str | None
    count: Count


class Aborted(_Record, frozen=True):
    """Answers that began with status 200 and broke off, by the code of the error in them (null: none)."""

    code: str | None
    count: Count


class Counts(_Record, frozen=True):
    """Measured requests. `scheduled` = `ok` + every failure; `sent` are those whose bytes were written.

    `resent` counts requests, warm-up included, sent a second time because the server had closed a kept connection
    between two requests.
    """

    scheduled: Count
    sent: Count
    ok: Count
    http: list[HttpFailures]
    timeout: Count
    connection: Count
    malformed: Count
    dropped: Count
    interrupted: Count
    resent: Count
    aborted: list[Aborted] = []


class WarmupCounts(_Record, frozen=True):
    """Requests of the warm-up, which no figure includes."""

    scheduled: Count
    ok: Count
    failed: Count


class Summary(_Record, frozen=True):
    """Exact figures in milliseconds. `count` values, of which `failed` infinite; percentiles by nearest rank."""

    count: Count
    failed: Count
    mean_ms: float | None
    min_ms: float | None
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p999_ms: float | None
    max_ms: float | None


class Latency(_Record, frozen=True):
    """Latency from the planned send time (what the gate judges), from the sent time, and of answered requests only.

    In the first two a failed request is infinitely slow; the third leaves failures out and is for reading only.
    """

    from_planned: Summary
    from_sent: Summary
    answered_from_planned: Summary


class Goodput(_Record, frozen=True):
    """Requests that met both objectives: `good` of all, as a share, and per second.

    A request is good when its first token came within `ttft_objective_ms` of its planned send time and its mean time
    between tokens is at most `itl_objective_ms`. One that failed is not. The rate of an open loop is per second of
    measured time, in which they were due.
    """

    ttft_objective_ms: Amount
    itl_objective_ms: Amount
    good: Count
    share: Amount | None
    rate_per_s: Amount | None


class TokenFigures(_Record, frozen=True):
    """What the answers to a workload had. Tokens are counted by the service, of answered requests; null: it does not.

    Rates are per second of an open loop's measured time, or of the time until the last answer if that is longer.
    `ttft` is the time to the first part with a text from the planned send time, `ttft_from_sent` from the sent time.
    `itl` is each request's mean time between tokens, from its first part to its last over its tokens but one; it leaves
    out requests of one token. `worst_gap` is each request's longest time between two parts. Failed requests are
    infinite in all of them. Those four and `goodput` belong to chats.
    """

    texts: Count
    texts_per_s: Amount | None
    prompt_tokens: Count | None
    prompt_tokens_per_s: Amount | None
    output_tokens: Count | None
    output_tokens_per_s: Amount | None
    ttft: Summary | None
    ttft_from_sent: Summary | None
    itl: Summary | None
    worst_gap: Summary | None
    goodput: Goodput | None


class Window(_Record, frozen=True):
    """The requests that were due within one second, counted from `start_s` of the measured time."""

    start_s: Amount
    scheduled: Count
    ok: Count
    failed: Count
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    max_ms: float | None


class Validity(_Record, frozen=True):
    """Observations on the measurement itself; the gate judges them.

    `planned_rate_per_s` and `achieved_rate_per_s` are requests due, and written, per second of measured time or of the
    time sending took, whichever is longer. `pacing_lag` is how late the generator turned to a request, `send_lag` how
    late its bytes were written, which adds waiting for a connection. `generator_cpu_share` is the generator's
    processor time over wall time. `answered` counts all answers, warm-up included, as the service's counter does.
    `most_in_flight` is the largest number of requests under way at a time. `clock_step_ms` is how far the machine's
    clock was set during the run; no figure depends on it, since all times come from a clock that is never set.
    """

    planned_rate_per_s: Amount | None
    achieved_rate_per_s: Amount | None
    generator_cpu_share: Amount | None
    parsed_replies: Count
    answered: Count
    most_in_flight: Count | None
    clock_step_ms: float | None
    pacing_lag: Summary
    send_lag: Summary


class OutcomeName(_Record, frozen=True):
    """What an index in `Requests.outcome` stands for."""

    kind: Kind
    status: int | None
    code: str | None


class TokenColumns(_Record, frozen=True):
    """What the answer to each request had; null where it did not come so far, or the service does not say.

    `first_us` and `last_us` are when the first and the last part with a text came, `worst_gap_us` the longest time
    between two of them.
    """

    texts: list[Count]
    prompt_tokens: list[Count | None]
    output_tokens: list[Count | None]
    first_us: list[int | None]
    last_us: list[int | None]
    worst_gap_us: list[int | None]


class Requests(_Record, frozen=True):
    """Every measured request, column by column, in microseconds from the start of the measured time.

    `sent_us` is null for a request never sent, `done_us` is when its outcome was known. `tokens` belongs to a workload.
    """

    outcomes: list[OutcomeName]
    planned_us: list[int]
    sent_us: list[int | None]
    done_us: list[int]
    outcome: list[Count]
    payload: list[Count]
    tokens: TokenColumns | None = None


class RunFile(_Record, frozen=True):
    """One run of the load generator."""

    format: Literal["headrace-run"]
    version: Literal[1]
    started_at: str
    partial: bool
    configuration: Configuration
    machine: Machine
    commit: Commit | None
    service: Service
    warmup: WarmupCounts
    counts: Counts
    latency: Latency
    windows: list[Window]
    validity: Validity
    requests: Requests
    tokens: TokenFigures | None = None
