"""How one consumer calls Redis: errors as the interface has them, functions loaded where they are missing [I/O]."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from shared import keys
from shared.redis import functions, library
from shared.redis.advice import told
from shared.redis.client import RedisError, ServerError, SyncLink, is_demoted

from .interface import NO_ROOM, Completion, StreamDown, StreamGone
from .redis_lanes import by_lane

log = logging.getLogger(__name__)
T = TypeVar("T")


class RedisCalls:
    """Calls on behalf of one consumer of a model.

    Args:
        client: for what is done now and then; what is done often has a link of its own.
        stream_ms: how long a reply stream stays.

    Attributes:
        was_demoted: the server has said that it is a replica now; whoever has renewed the connections resets it.
    """

    def __init__(self, client: Any, model: str, stream_ms: int) -> None:
        self._client, self._model, self._stream_ms = client, model, stream_ms
        self._main = keys.work(model, keys.DEFAULT_LANE)
        self.was_demoted = False

    def work_of(self, lane: str) -> str:
        """Return the work stream of a lane."""
        return self._main if lane == keys.DEFAULT_LANE else keys.work(self._model, lane)

    def commits(self, completions: Sequence[Completion]) -> dict[str, functions.Command]:
        """Return the command for each lane that ends these."""
        found = by_lane(completions, attrgetter("lane"))
        return {lane: functions.commit(self.work_of(lane), self._stream_ms, some) for lane, some in found.items()}

    def statuses(self, answers: Mapping[str, Iterable[Any]], lanes: Iterable[str]) -> list[int]:
        """Put what was answered for each lane in the order of the items, of which these are the lanes."""
        statuses = {lane: iter(answer) for lane, answer in answers.items()}
        return [status_of(next(statuses[lane], 0)) for lane in lanes]

    def call(self, link: SyncLink | None, command: functions.Command) -> Any:
        """Call a function, on any connection when ``link`` is None; load the functions where they are missing."""
        send = self._client.execute_command if link is None else link.call
        return self.loaded(lambda: send(*command))

    def call_each(self, link: SyncLink, commands: Mapping[str, functions.Command]) -> dict[str, Sequence[Any]]:
        """Call a function for several lanes in one round trip; return the answers by lane.

        A lane that is gone answers nothing; that must not keep the others from being answered.
        """
        if len(commands) == 1:
            ((lane, command),) = commands.items()
            return {lane: self.call(link, command)}

        def call() -> dict[str, Sequence[Any]]:
            answers = dict(zip(commands, link.call_many(tuple(commands.values())), strict=True))
            for lane, answer in answers.items():
                if isinstance(answer, ServerError):
                    if not str(answer).startswith("NOGROUP"):
                        raise answer
                    answers[lane] = ()
            return answers

        return self.loaded(call)

    def loaded(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, which calls functions; load them where they are missing."""
        return self.guard(lambda: library.call_loaded(self._client, call))

    def guard(self, step: Callable[[], T]) -> T:
        """Return what ``step`` returns.

        Raises:
            StreamDown, StreamGone: it failed.
        """
        try:
            return step()
        except RedisError as error:
            self.was_demoted = self.was_demoted or is_demoted(error)
            if isinstance(error, ServerError) and str(error).startswith(("NOGROUP", "UNBLOCKED")):
                raise StreamGone(str(error)) from error
            raise StreamDown(told(error)) from error


def status_of(status: Any) -> int:
    """Return what the functions say of one item as the interface has it."""
    if isinstance(status, int):
        return status
    if status == b"full":
        return NO_ROOM
    log.error("Redis refused to commit a reply: %s", status.decode(errors="replace"))
    return -1
