"""What all requests of an application share."""

from __future__ import annotations

from time import monotonic

from producer_api.caching.equal_requests import EqualRequests
from producer_api.later.interface import LaterRequests
from producer_api.load.body_budget import BodyBudget
from producer_api.load.in_flight import InFlight
from producer_api.load.waiting import Waiting
from producer_api.metrics import ApiMetrics
from producer_api.net.addresses import Policy
from producer_api.net.egress import Egress
from producer_api.parsing.steps import StepRunner
from producer_api.queue.interface import Queue
from producer_api.request_log.ended import EndedRequests
from producer_api.store.aside import StoreAside
from producer_api.store.large_bodies import LargeBodies
from producer_api.store.stored_replies import StoredReplies
from producer_api.webhooks.hook import Hooks
from shared.limits import LONGEST_MS
from shared.settings import Settings

from .codec import Limits
from .request_ids import RequestIds
from .statistics import Statistics

MOST_RATIO = 1032
"""Deflate makes of one byte so many at the most."""


class AppContext:
    """The queue, what is counted, and what bounds a request.

    Attributes:
        ids: makes the ids of requests whose clients name none.
        statistics: of the dialects that have some.
        step_runner: where large bodies and answers are coded.
        later: takes requests that are answered later; None answers these at once, too.
        later_limits: their time limits.
        waiting: the clients that wait for later requests.
        keep_ms: how long their results are kept where they do not say.
        stored_replies: reads replies that lie in the result store.
        hooks: reads what their headers say of webhooks.
        large_bodies: bodies that lie there, or are fetched.
        equal_requests: answers requests of models with a cache.
        ended: takes what ended, for the request log; None while there is none.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        metrics: ApiMetrics,
        body_budget: BodyBudget,
        in_flight: InFlight,
        later: LaterRequests | None = None,
        store: StoreAside | None = None,
        ended: EndedRequests | None = None,
    ) -> None:
        self.queue, self.metrics, self.body_budget, self.in_flight = queue, metrics, body_budget, in_flight
        self.ids, self.step_runner = RequestIds(), StepRunner(settings.sending_limit_bytes)
        self.stored_replies = StoredReplies(store, settings.sending_limit_bytes)
        self.large_bodies = LargeBodies(store, settings, Egress(Policy.of(settings)))
        self.statistics, most_bytes = Statistics(), settings.max_body_bytes
        self.limits = Limits(settings.default_timeout_ms, settings.max_timeout_ms, most_bytes)
        self.waiting = Waiting(settings.max_listeners)
        self.later, self.keep_ms = later, settings.keep_ms
        self.later_limits = self.limits if later is None else Limits(settings.later_timeout_ms, LONGEST_MS, most_bytes)
        self.hooks = Hooks.of(settings)
        self.equal_requests = EqualRequests(queue, monotonic)
        self.max_body_bytes, self.ended = settings.max_body_bytes, ended

    def most_inflated_bytes(self, size_bytes: int) -> int:
        """Return what a compressed body may become, which is what it counts as until that is known."""
        return min(size_bytes * MOST_RATIO, self.max_body_bytes)
