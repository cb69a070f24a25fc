"""/console/dead: dead letters of all lanes; list them, put them back, drop them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from producer_api.console.access import require_read, who
from producer_api.console.actions.audit import note
from producer_api.console.actions.handling import Choice, Handling
from producer_api.console.actions.letters import check_name, cursor_of, entry_of, newest_of
from producer_api.console.actions.listing import page_of
from producer_api.console.documents import MOST_MATCH, DeadAction, decode_dead_action
from producer_api.console.redis_access import ConsoleRedis
from producer_api.http.body import Disconnected
from producer_api.http.guarded_protocol import ON_GONE
from producer_api.http.rules import Rules
from producer_api.inference.encoding import json_encoder
from producer_api.metrics import ApiMetrics
from producer_api.queue.admission import check_lane, find_model
from producer_api.queue.interface import Queue
from producer_api.routes.models import json_response
from shared.settings import Settings
from shared.wire.outcomes import OVERLOADED, RequestError, malformed

from .posting import Posting, options_of

LIST_PATH = "/console/dead"
REQUEUE_PATH = LIST_PATH + "/requeue"
DROP_PATH = LIST_PATH + "/drop"

MOST_AT_ONCE: Final = 4
"""Actions of this front end."""

MOST_LETTERS, LETTERS = 500, 100

_HEADERS: Final = [
    (b"content-type", b"application/jsonl"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class DeadLetters:
    """The routes."""

    def __init__(
        self, settings: Settings, queue: Queue, redis: ConsoleRedis, posting: Posting, metrics: ApiMetrics, rules: Rules
    ) -> None:
        self._settings, self._queue, self._redis = settings, queue, redis
        self._posting, self._metrics, self._rules = posting, metrics, rules
        self._running = 0

    def routes(self) -> list[BaseRoute]:
        """Return them all."""
        return [
            Route(LIST_PATH, self.page, methods=["GET"], include_in_schema=False),
            Route(REQUEUE_PATH, _Action(self, is_requeue=True), methods=["POST"], include_in_schema=False),
            Route(DROP_PATH, _Action(self, is_requeue=False), methods=["POST"], include_in_schema=False),
        ]

    async def page(self, request: Request) -> Response:
        """List letters, newest first."""
        require_read(request)
        given = options_of(request, "model", "lane", "match", "after", "limit")
        match, limit = given.get("match", ""), given.get("limit", str(LETTERS))
        if len(match) > MOST_MATCH:
            raise malformed(f"match has {MOST_MATCH} characters at most.", "match")
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= MOST_LETTERS):
            raise malformed(f"limit is a whole number from 1 to {MOST_LETTERS}.", "limit")
        after = cursor_of(given["after"], "after") if given.get("after") else None
        model, lanes = self._place(given.get("model", ""), given.get("lane", ""))
        return json_response(await page_of(self._redis, model, lanes, after, match, int(limit)))

    def _place(self, model: str, lane: str) -> tuple[str, list[str]]:
        """Return the model and the lanes that are meant.

        Raises:
            RequestError: there is no such model or lane.
        """
        state = find_model(self._queue.catalogue(), check_name(model, "model"), "")
        if lane:
            check_lane(state, check_name(lane, "lane"))
        return state.name, [lane] if lane else list(state.lanes)

    def _room(self, model: str, lane: str) -> int:
        """Return how many requests a lane may hold for all that is requeued: the other half is for clients."""
        state = self._queue.catalogue().models.get(model)
        limit = None if state is None else state.lanes.get(lane)
        return max(1, (self._settings.lane_limit if limit is None else limit) // 2)

    async def _choice(self, asked: DeadAction) -> Choice:
        """Check what is asked for.

        Raises:
            RequestError: it makes no sense.
        """
        model, lanes = self._place(asked.model, asked.lane)
        if asked.all == (asked.ids is not None):
            raise malformed("Name ids, or say all: true.", "ids")
        if asked.ids is None:
            if asked.up_to:
                return Choice(model, lanes, None, asked.match, entry_of(asked.up_to, "up_to"))
            (clock,) = await self._redis.look(("TIME",))
            return Choice(model, lanes, None, asked.match, newest_of(int(clock[0]) * 1000 + int(clock[1]) // 1000))
        if asked.match or asked.up_to or not asked.lane:
            raise malformed("With ids comes the lane that they are of, and neither match nor up_to.", "lane")
        ids = [entry_of(text, f"ids[{at}]").text for at, text in enumerate(asked.ids)]
        return Choice(model, lanes, list(dict.fromkeys(ids)), "", newest_of(0))

    async def act(self, scope: Scope, receive: Receive, send: Send, *, is_requeue: bool) -> None:
        """Answer an action with lines of progress. The end of the connection ends it, between two pieces."""
        request = Request(scope, receive)
        try:
            asked = await self._posting.read(request, decode_dead_action)
        except Disconnected:
            return
        choice = await self._choice(asked)
        if self._running >= MOST_AT_ONCE:
            raise RequestError(OVERLOADED, f"{MOST_AT_ONCE} such actions run already; wait for one.", retry_after_s=1)
        is_gone = asyncio.Event()

        def is_over() -> str:
            if is_gone.is_set():
                return "The browser went away."
            return "This front end is stopping; go on with another." if self._rules.is_draining else ""

        handling = Handling(
            self._redis, choice, lambda lane: self._room(choice.model, lane), is_over, is_requeue=is_requeue
        )
        scope[ON_GONE] = is_gone.set
        self._running += 1
        try:
            await self._answer(handling, send)
        finally:
            self._running -= 1
            del scope[ON_GONE]
            self._note(who(request), handling, choice, is_requeue=is_requeue)

    async def _answer(self, handling: Handling, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        async with aclosing(handling.work()) as pieces:
            async for progress in pieces:
                await _line(send, progress)
        await _line(send, handling.end)
        await send({"type": "http.response.body", "body": b""})

    def _note(self, name: str, handling: Handling, choice: Choice, *, is_requeue: bool) -> None:
        of = f"all that match {choice.match!r}" if choice.match else "all" if choice.ids is None else "chosen ones"
        lanes = choice.lanes[0] if len(choice.lanes) == 1 else f"all {len(choice.lanes)} lanes"
        counts = f"{handling.done} dead letters of {choice.model}, {lanes} ({of}); {handling.failed} failed"
        note(self._metrics, name, "requeue" if is_requeue else "drop", counts, handling.why)


class _Action:
    """An endpoint; as a plain ASGI callable it can look after its client while it works."""

    def __init__(self, letters: DeadLetters, *, is_requeue: bool) -> None:
        self._letters, self._is_requeue = letters, is_requeue

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._letters.act(scope, receive, send, is_requeue=self._is_requeue)


async def _line(send: Send, value: object) -> None:
    await send({"type": "http.response.body", "body": json_encoder.encode(value) + b"\n", "more_body": True})
