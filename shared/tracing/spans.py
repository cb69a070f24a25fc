"""The interface of tracing, which is optional. Off, the default, imports nothing.

A request that comes with a W3C ``traceparent`` gets a span in the front end, whose own traceparent travels in the
message; a batch gets one span with a link to each traced request in it. ``otlp.py`` implements it,
and ``start.py`` chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.wire.messages import Timing
from shared.wire.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """A request of a batch that belongs to a trace; ``outcome`` is its code, waits are in seconds."""

    request_id: str
    traceparent: str
    outcome: str
    queue_wait_s: float
    batch_wait_s: float


@dataclass(frozen=True, slots=True)
class TracedBatch:
    """A batch that was committed just now, with its traced requests.

    Attributes:
        age_s: time since it left the batcher.
        rows: all rows of the batch, those of other requests too.
        reason: why it closed.
        run_s, postprocess_s, commit_s: what it spent.
        first_token_s: when a generation had its first token, in seconds after it left the batcher; None for no such.
    """

    model: str
    precision: str
    age_s: float
    rows: int
    reason: str
    run_s: float
    postprocess_s: float
    commit_s: float
    requests: Sequence[TracedRequest]
    first_token_s: float | None = None


class RequestSpan(Protocol):
    """The span of one request in the front end."""

    @property
    def traceparent(self) -> str:
        """What goes into the message: the same trace, this span."""

    def first_token(self) -> None:
        """Note that the first part of an answer that is sent as it is made goes to the client now."""

    def answered(self, timing: Timing) -> None:
        """Note what the consumer says it spent."""

    def end(self, request_id: str, outcome: Outcome) -> None:
        """End it."""


class Tracing(Protocol):
    """Where spans go; its methods may be called from any thread, never raise and never wait."""

    def request(self, traceparent: str, route: str, model: str) -> RequestSpan:
        """Begin the span of a request that came with a valid ``traceparent``."""

    def batch(self, batch: TracedBatch) -> None:
        """Record a batch; a link for each request whose trace is sampled, and nothing when there is none."""

    def stop(self) -> None:
        """Send what is left; waits for a few seconds at most."""
