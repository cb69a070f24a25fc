"""A request that is put off: it goes into its lane with a record, and its client may wait a while for the answer.

What an ``Exchange`` (``inference/exchanges``) does with a request that is answered later. No I/O of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from producer_api.inference.codec import Decoded, Head, Response
from producer_api.inference.context import AppContext
from producer_api.later.interface import LaterRequests, Placed
from producer_api.later.jobs import State
from producer_api.later.listening import Listener
from producer_api.queue.interface import ModelState
from shared.wire.outcomes import ACCEPTED, OK, UNKNOWN_REQUEST, Outcome, RequestError

from .responses import accepted, ended_without_reply, new_job, response_to

Respond = Callable[[Response, Outcome], None]
Fail = Callable[[Exception], None]


class Deferral:
    """Puts one request off.

    Args:
        media_type: of its answer.
        hook: whom to notify, as JSON; empty for nobody.
        respond, fail: one of them is called once, unless it is stopped.
    """

    def __init__(
        self,
        context: AppContext,
        head: Head,
        state: ModelState,
        decoded: Decoded,
        media_type: str,
        hook: str,
        respond: Respond,
        fail: Fail,
    ) -> None:
        assert head.later is not None
        self._context, self._head, self._state, self._decoded = context, head, state, decoded
        self._asked, self._media_type, self._hook, self._respond, self._fail = (
            head.later,
            media_type,
            hook,
            respond,
            fail,
        )
        self._listener: Listener | None = None
        self._task: asyncio.Task[None] | None = None
        self._holder = None if head.client is None else head.client.key.digest
        self._is_stopped = False

    def begin(self, later: LaterRequests) -> None:
        """Put it into its lane.

        Raises:
            RequestError: it is refused at once.
        """
        request_id = self._decoded.request.id
        self._later = later
        if self._asked.wait_s:
            client = self._head.client
            self._context.waiting.enter(self._holder, None if client is None else client.key.max_in_flight)
            self._listener = later.listen(self._state.name, self._head.lane, request_id)
        job = new_job(self._head, self._decoded, self._media_type, self._context.keep_ms, self._hook)
        try:
            later.submit(self._state, self._head.lane, job, self._placed)
        except BaseException:
            self._leave()
            raise

    def stop(self) -> None:
        """The client is gone. The request goes on: its client may know the id."""
        self._is_stopped = True
        self._leave()
        if self._task is not None:
            self._task.cancel()

    def _leave(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._context.waiting.leave(self._holder)

    def _placed(self, result: Placed | RequestError) -> None:
        if self._is_stopped:
            return
        if isinstance(result, RequestError):
            self._leave()
            self._fail(result)
        elif self._listener is None:
            self._put_off(State.QUEUED, result.position)
        else:
            self._task = asyncio.create_task(self._wait(self._listener, result.position))

    def _put_off(self, stands: State, position: int) -> None:
        applied = self._asked.applied
        self._respond(accepted(self._state, self._decoded.request.id, stands, position, applied), ACCEPTED)

    async def _wait(self, listener: Listener, position: int) -> None:
        """Wait for the end as long as the client does, and answer with the result, or put it off."""
        try:
            if not position:  # it was sent before, and may have ended before this listened
                job, _ = await self._later.find(self._state.name, self._head.lane, listener.request_id)
                if job is not None:
                    listener.seen(job)
            await listener.end(self._asked.wait_s)
            if listener.has_ended:
                response = await self._result(listener.request_id)
                response.headers = [*response.headers, (b"preference-applied", self._asked.applied)]
            stands, place = listener.state or State.QUEUED, listener.position or position
        except Exception as error:
            self._leave()
            self._fail(error)
            return
        has_ended = listener.has_ended
        self._leave()
        if has_ended:
            self._respond(response, OK)
        else:
            self._put_off(stands, place if stands is State.QUEUED else 0)

    async def _result(self, request_id: str) -> Response:
        job, reply = await self._later.find(self._state.name, self._head.lane, request_id)
        if reply is not None:
            reply = await self._context.stored_replies.whole(self._state.name, self._head.lane, reply)
            codec, asked = self._head.codec, self._decoded.asked
            return await response_to(reply, request_id, codec, self._media_type, asked, self._context.step_runner)
        if job is None:
            raise RequestError(UNKNOWN_REQUEST, "The result is no longer stored.", request_id=request_id)
        raise ended_without_reply(job)
