"""The routes of what the console does, put together."""

from __future__ import annotations

from starlette.routing import BaseRoute

from producer_api.console.redis_access import ConsoleRedis
from producer_api.http.rules import Rules
from producer_api.load.body_budget import BodyBudget
from producer_api.metrics import ApiMetrics
from producer_api.queue.interface import Queue
from shared.settings import Settings

from .dead import DeadLetters
from .jobs import JobRoutes
from .posting import Posting


def routes(
    settings: Settings,
    queue: Queue,
    redis: ConsoleRedis,
    body_budget: BodyBudget,
    metrics: ApiMetrics,
    rules: Rules,
) -> list[BaseRoute]:
    """Make them."""
    posting = Posting(body_budget)
    return [
        *DeadLetters(settings, queue, redis, posting, metrics, rules).routes(),
        *JobRoutes(queue, redis, posting, metrics).routes(),
    ]
