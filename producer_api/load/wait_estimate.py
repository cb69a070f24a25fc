"""Estimates a request's wait from the requests ahead of it. Pure: time comes in as an argument, in seconds.

Consumers process a lane in batches: ``workers`` consumers run ``rows`` requests each in ``batch_s``. So with
``ahead`` requests in the lane, running ones included, a new request gets its answer after about

    ahead / (workers * rows / batch_s) + batch_s

seconds. That holds for requests of one row on consumers that have the machine to themselves. The real factor
is learned from answers: they took ``slowness`` times as long.

Where time grows with tokens, requests differ: a lane of long texts has fewer of them in a batch. So for each lane the
service is that for requests with as many tokens as those in it have on average, and ``ahead`` of them cost what their
tokens cost. For generations consumers say how many tokens they get done, and how many they generate for a request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from shared.state.cards import TOKEN, BatchSettings

SHARE = 0.8
"""A request is accepted if its predicted time is at most this share of its limit; the rest is for surprises:
batches that are not full, a slower batch, the way there and back."""

LEARNING = 0.05
"""Weight of the newest answer in the running estimate of the slowness."""

LEAST_SLOWNESS, MOST_SLOWNESS = 0.5, 100.0

MOST_RETRY_AFTER_S = 60

ROW = "row"
"""The unit of models whose time grows with the rows alone."""


@dataclass(frozen=True, slots=True)
class Service:
    """What a model's live consumers get done when there is enough to do.

    Attributes:
        wave: requests that run at once, a batch on each consumer.
        batch_s: how long that takes.
        unit_rate: units per second of a model whose time grows with these, such as tokens; 0 for one of rows.
        answer_units: what each request costs besides its input: tokens that are generated.
        has_slots: requests run side by side, however long they are, instead of sharing a batch of so many units.
    """

    wave: int
    batch_s: float
    unit_rate: float = 0.0
    answer_units: float = 0.0
    has_slots: bool = False

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.wave / self.batch_s

    def for_requests_of(self, units: float) -> Service:
        """Return the service as requests see it whose input has so many units on average; 0 where that is unknown."""
        if not self.unit_rate or not units > 0.0:
            return self
        cost = units + self.answer_units
        wave = self.wave if self.has_slots else max(1, round(self.unit_rate * self.batch_s / cost))
        return replace(self, wave=wave, batch_s=wave * cost / self.unit_rate)


def service_of(batch: BatchSettings, workers: int) -> Service | None:
    """Tell the service from the batch settings of a model's card; None when they do not say what a batch costs."""
    if workers < 1 or batch.fixed_ms is None or batch.per_row_ms is None:
        return None
    rows = batch.max_batch
    if batch.policy == "adaptive" and batch.preferred is not None:
        rows = min(rows, batch.preferred)
    if batch.unit != ROW and batch.max_units is not None and batch.per_unit_ms and batch.per_row_ms:
        # A batch is full by its tokens: as many texts as have so many together, if they are as long as usual.
        rows = min(rows, max(1, int(batch.max_units * batch.per_unit_ms / batch.per_row_ms)))
    batch_s = (batch.fixed_ms + batch.per_row_ms * rows) / 1000
    if rows < 1 or not 0.0 < batch_s < math.inf:
        return None
    unit_rate = 0.0
    if batch.unit == TOKEN and batch.per_unit_ms:
        unit_rate = workers * rows * batch.per_row_ms / batch.per_unit_ms / batch_s
    return Service(workers * rows, batch_s, unit_rate)


def generation_service(said: Iterable[tuple[float, float, float]]) -> Service | None:
    """Tell the service from what live workers say that generate; None where none has been busy enough to know.

    Args:
        said: of each worker its slots, the tokens that it gets done in a second, and those that it generates for a
            request; 0 for what it does not know.
    """
    known = [one for one in said if all(0.0 < value < math.inf for value in one)]
    if not known:
        return None
    wave, unit_rate = sum(slots for slots, _, _ in known), sum(rate for _, rate, _ in known)
    answer = sum(tokens * rate for _, rate, tokens in known) / unit_rate
    return Service(max(1, int(wave)), max(1, int(wave)) * answer / unit_rate, unit_rate, answer, has_slots=True)


class Backlog:
    """What is known of a lane's length, and of how quickly it shrinks.

    The length is known exactly whenever requests were added to the lane; from then on the consumers shorten it. While
    everything is refused nothing is added, so the length is assumed to shrink at the predicted rate, until the next
    reading. If that is too hopeful, the next few accepted requests bring the true one.

    Attributes:
        length: requests in the lane as last told, and those sent since.
        slowness: how many times longer answers take than the card says.
        service: the latest that is known of the consumers, None for nothing.
    """

    __slots__ = ("_resumed_s", "_told_s", "length", "service", "slowness")

    def __init__(self) -> None:
        self.service: Service | None = None
        self.length = 0
        self.slowness = 1.0
        self._told_s = 0.0
        self._resumed_s = -math.inf

    def paused(self, now_s: float) -> None:
        """Note that consumers claim nothing now, or did so until now: what answers took meanwhile teaches nothing.

        What was learned before is forgotten, since the first moments of a pause look like slow consumers.
        """
        self._resumed_s, self.slowness = now_s, 1.0

    def told(self, length: int, now_s: float) -> None:
        """Take in the true length."""
        self.length, self._told_s = length, now_s

    def seen(self, length: int, since_s: float) -> None:
        """Take in a length that was requested at ``since_s``, unless a newer one is known."""
        if since_s > self._told_s:
            self.told(length, since_s)

    def before_room(self, service: Service, limit_s: float, now_s: float) -> float:
        """Return 0 if one more has its answer within ``limit_s``, else how many requests must be done first.

        They are as many as leave the lane half as long as it may be: a client that comes back after that time finds
        room, and so do many others.

        A lane with less than a batch for each consumer is never too long: refusing would leave consumers idle.
        """
        at_most = (limit_s * SHARE / self.slowness - service.batch_s) * service.wave / service.batch_s
        length, wave = self.length, service.wave
        if length < at_most or length < wave:  # as nearly always, so that is all it may cost
            return 0.0
        most = max(at_most, float(wave))
        left = length - max(0.0, now_s - self._told_s) * service.rate / self.slowness
        return 0.0 if left < most else left - most / 2

    def retry_after_s(self, too_many: float) -> int:
        """Return the whole seconds in which the consumers get ``too_many`` requests done: at least 1, at most 60."""
        if self.service is None:
            return 1
        return min(MOST_RETRY_AFTER_S, max(1, math.ceil(too_many * self.slowness / self.service.rate)))

    def answered(
        self, service: Service, ahead: int, took_s: float, begun_s: float = math.inf, *, or_longer: bool = False
    ) -> None:
        """Learn from an answer that took ``took_s``, began at ``begun_s``, and had ``ahead`` requests before it.

        Args:
            or_longer: the client did not wait for its end, so that it says nothing about being quick.

        Those that found hardly anything say nothing about the rate. That the least that is always let in does say
        something is what brings the slowness down again, whatever happened before.
        """
        if 2 * ahead < service.wave or not 0.0 < took_s < math.inf or begun_s <= self._resumed_s:
            return
        seen = took_s / (ahead * service.batch_s / service.wave + service.batch_s)
        if not LEAST_SLOWNESS <= seen <= MOST_SLOWNESS:
            seen = LEAST_SLOWNESS if seen < LEAST_SLOWNESS else MOST_SLOWNESS
        if not or_longer or seen > self.slowness:
            self.slowness += LEARNING * (seen - self.slowness)
