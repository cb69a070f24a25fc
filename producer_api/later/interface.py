"""What the routes need of later requests. ``redis_later.py`` is the real thing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from producer_api.queue.interface import ModelState
from shared.wire.messages import Reply, Request
from shared.wire.outcomes import RequestError

from .jobs import Job
from .listening import Listener


class NewJob(Struct, frozen=True):
    """A later request on its way into a lane.

    Attributes:
        request: with ``keep_ms``; ``ttl_ms`` says until when it must begin.
        id_is_generated: the front end made the id, so nobody can have used it before.
        asked: encoded by :func:`jobs.encode_asked`.
        fingerprint: of what was sent, letters and digits; empty where that does not matter.
        hook: whom to notify, as JSON; empty for nobody.
    """

    request: Request
    id_is_generated: bool
    asked: bytes
    fingerprint: str = ""
    hook: str = ""


class Placed(Struct, frozen=True):
    """A later request is in its lane.

    Attributes:
        position: its place among the lane's open later requests; 0 if it had been sent before.
    """

    position: int


Done = Callable[[Placed | RequestError], None]


class LaterRequests(Protocol):
    """The later requests of all models and lanes."""

    async def start(self, is_stopping: Callable[[], bool]) -> None:
        """Connect.

        Args:
            is_stopping: says that the front end is to end, so that nobody should wait here any more.
        """

    async def close(self) -> None:
        """End all waits."""

    def submit(self, state: ModelState, lane: str, job: NewJob, done: Done) -> None:
        """Put a later request into a lane.

        Args:
            done: called once, on the event loop; it must not raise. With an error nothing was added, unless that is
                ``QUEUE_UNAVAILABLE``, after which a client asks again with the same id.
        """

    def listen(self, model: str, lane: str, request_id: str) -> Listener:
        """Begin to wait for a request. It is to be looked for afterwards, since it may have ended before."""

    async def find(self, model: str, lane: str, request_id: str) -> tuple[Job | None, Reply | None]:
        """Return the record of a request and its stored reply, None for what there is not.

        Raises:
            RequestError: ``QUEUE_UNAVAILABLE``, ``INTERNAL``.
        """
