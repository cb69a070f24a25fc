"""Answers that their clients have not read yet: the account that HTTP has, for calls."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from producer_api.load.answer_budget import AnswerBudget, UnreadAnswer

from . import connections

log = logging.getLogger("headrace.grpc")


class UnreadAnswers:
    """Watches the answers that the library has not got rid of. A client that takes none for too long is cut off.

    An answer enters the account when it is looked at for the first time: most have been read by then. The library does
    not tell how much of one was read, so each has the whole time limit for itself.
    """

    def __init__(self, answer_budget: AnswerBudget) -> None:
        self._budget = answer_budget
        self._sent: dict[Any, tuple[int, UnreadAnswer | None]] = {}
        self._sent_bytes = 0
        self._is_watching = False

    def begin(self, call: Any, size_bytes: int) -> None:
        """Note that an answer was handed to the library; each must be ended.

        Args:
            call: a ``grpc.aio.ServicerContext``; it has one at a time.
        """
        self._sent[call] = (size_bytes, None)
        self._sent_bytes += size_bytes
        if not self._is_watching:
            self._is_watching = True
            asyncio.get_running_loop().call_later(self._budget.look_s, self._watch)
        elif self._sent_bytes > self._budget.most_bytes:
            self._look()

    def end(self, call: Any) -> None:
        """Note that the client has it, or is gone."""
        size_bytes, unread = self._sent.pop(call, (0, None))
        self._sent_bytes -= size_bytes
        if unread is not None:
            unread.end()

    def _watch(self) -> None:
        self._look()
        self._is_watching = bool(self._sent)
        if self._is_watching:
            asyncio.get_running_loop().call_later(self._budget.look_s, self._watch)

    def _look(self) -> None:
        now_s = asyncio.get_running_loop().time()
        for call, (size_bytes, unread) in list(self._sent.items()):
            if unread is not None:
                unread.progress(0, now_s)
                continue
            begun = self._budget.begin(size_bytes, now_s, partial(_cut_off, call.peer()))
            if call in self._sent:
                self._sent[call] = (size_bytes, begun)


def _cut_off(peer: str) -> None:
    if not connections.end(peer):
        log.debug("The connection of %s was not found.", peer)
