"""Where the answers of generations go: their parts to the emitter, and then the whole ones to the committer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from consumer.pipeline.context import Context
from consumer.pipeline.interface import Replies
from consumer.pipeline.items import BatchRun, Item, Refused
from consumer.queue.interface import Entry, StreamDown, StreamGone
from shared.wire.frames import HANDED_OVER, TokenLogprob

from .emitter import Emitter
from .outgoing import Outgoing

log = logging.getLogger(__name__)


class Part(NamedTuple):
    """What a step has brought of one generation."""

    item: Item
    tokens: Sequence[int]
    text: str
    logprobs: Sequence[TokenLogprob]


class StreamReplies:
    """See :class:`consumer.pipeline.interface.Replies`; for the executor's thread only.

    Args:
        committer: takes whole answers.
        hand_over: lets leases end at once.
    """

    def __init__(
        self, context: Context, emitter: Emitter, committer: Replies, hand_over: Callable[[Sequence[Item]], None]
    ) -> None:
        self._context, self._emitter, self._committer, self._hand_over = context, emitter, committer, hand_over
        self._outgoing: dict[int, Outgoing] = {}

    def begin(self, item: Item, attempt: int, seq: int, flags: int, *, is_streamed: bool) -> None:
        """Take on a generation whose next frame has the number ``seq``."""
        request = item.request
        expiry_ms = self._context.settings.reply_expiry_ms(request.ttl_ms, request.keep_ms)
        outgoing = Outgoing(request.id, attempt, seq, expiry_ms, is_streamed=is_streamed, flags=flags)
        self._outgoing[id(item)] = outgoing
        reply_to = (request.reply_to or "") if is_streamed else ""
        self._emitter.begin(item.entry.claim, request.id, reply_to, outgoing)

    def is_lost(self, item: Item) -> bool:
        """Say whether a generation is not this consumer's any more."""
        return self._outgoing[id(item)].is_lost

    def emit(self, parts: Sequence[Part], now_s: float) -> None:
        """Take what a step has brought; never blocks the device."""

        def add() -> None:
            for part in parts:
                self._outgoing[id(part.item)].add(part.tokens, part.text, part.logprobs, now_s)

        if parts:
            self._emitter.notify(add)

    def end(self, item: Item, finish: str, flags: int, run: Callable[[int], BatchRun]) -> None:
        """Take a generation that is complete: its last frame goes before the whole answer.

        Args:
            run: sets the outcome of the item, for so many frames, and returns what it ran like.
        """
        outgoing = self._outgoing.pop(id(item))
        then = partial(self._finish, item, outgoing, run)
        self._emitter.end(item.entry.claim, partial(outgoing.end, finish, flags), then)

    def _finish(self, item: Item, outgoing: Outgoing, run: Callable[[int], BatchRun]) -> None:
        self._committer.finish([item], run(outgoing.seq))

    def fail(self, item: Item, run: BatchRun) -> None:
        """Take an item that ends with an error, whatever has been streamed of it."""
        if self._outgoing.pop(id(item), None) is not None:
            self._emitter.drop(item.entry.claim)
        self._committer.finish([item], run)

    def forget(self, item: Item) -> None:
        """Drop a generation that is another consumer's, or was cancelled."""
        self._outgoing.pop(id(item), None)
        self._emitter.drop(item.entry.claim)
        self._release(item)

    def leave(self, items: Sequence[Item]) -> None:
        """Let another consumer go on with generations, all at once: their records have all that is there of them."""
        unwritten = len(items)

        def give() -> None:
            nonlocal unwritten
            unwritten -= 1
            if not unwritten:
                self._hand_over(items)
                for item in items:
                    self._release(item)

        for item in items:
            outgoing = self._outgoing.pop(id(item))
            self._emitter.end(item.entry.claim, partial(outgoing.end, "", HANDED_OVER), give)

    def prove(self, item: Item) -> None:
        """Let one that was taken over count as any other: what ends this consumer now is not its doing."""
        entry = item.entry
        proven = Entry(entry.entry_id, entry.added_ms, None, 1, entry.lane)

        def note() -> None:
            try:
                self._context.stream.begin_isolated(proven)
            except (StreamDown, StreamGone) as error:
                log.debug("That a generation goes on was not noted: %s", error)

        self._emitter.soon(note)

    def refuse(self, refused: Sequence[Refused]) -> None:
        """See the interface."""
        self._committer.refuse(refused)

    def finish(self, items: Sequence[Item], run: BatchRun) -> None:
        """See the interface."""
        self._committer.finish(items, run)

    def _release(self, item: Item) -> None:
        """Let go of an entry, and of those that joined it: they come back when their leases are over."""
        joined = self._context.deduplication.end(item.entry.lane, item.request.id, answered=False)
        self._context.leases.release([item.entry.claim, *(one.entry.claim for one in joined)])
