"""Results of later requests that are large, or kept for long, go to the result store [I/O].

The reply that is committed says where the whole one is. The device and other requests never wait for the store: threads
of their own write, and what the store does not take, or not in time, is committed whole, as if there were no store.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec

from consumer.pipeline.decoding.threads import Decoders, Deliver, Job, NewThread
from consumer.pipeline.items import Item
from consumer.queue.interface import Completion
from shared.results.references import LEAST_KEEP_MS, LEAST_REPLY_BYTES, SLACK_S, stored_reply
from shared.results.store import Store, StoreError
from shared.wire.fast import decode_reply, encode_reply

log = logging.getLogger(__name__)

THREADS: Final = 2
LONGEST_PUT_S: Final = 10.0
"""After which a result that the store has not taken is committed whole."""

MOST_PENDING_BYTES: Final = 64 << 20
MOST_PENDING: Final = 1024
"""Results that wait for the store; beyond them others are committed whole."""


Commit = Callable[[Sequence[Completion]], None]


@dataclass(eq=False, slots=True)
class _Kept(Job):
    """A result on its way to the store, with all requests that it answers."""

    completions: Sequence[Completion] = ()
    commit: Commit = field(default=lambda completions: None)

    @property
    def size_bytes(self) -> int:
        return len(self.completions[0].reply)


class ResultKeeper:
    """Writes results into the store, for all models that a consumer runs after one another.

    Args:
        new_thread: makes a thread whose crash ends the process. They are started with the first result.
        counted: called for each result that belongs into the store: whether it is there.
    """

    def __init__(self, store: Store, model_name: str, new_thread: NewThread, counted: Callable[[bool], None]) -> None:
        self._store, self._model_name, self._counted = store, model_name, counted
        self._writers = Decoders(
            self._work,
            self._give_up,
            self._give_up,
            lambda: None,
            new_thread,
            THREADS,
            LONGEST_PUT_S,
            1,
            "store-result",
        )
        self._changed = threading.Condition()
        self._pending = self._pending_bytes = 0
        self._is_started = self._has_complained = False

    def keep(self, item: Item, completions: Sequence[Completion], commit: Commit) -> bool:
        """Take a result for the store; False if it is to be committed as it is.

        Args:
            completions: of the request and of those that joined it, all with the same reply.
            commit: called once, on another thread, with what to commit.
        """
        job = _Kept(item, completions=completions, commit=commit)
        keep_ms = item.request.keep_ms or 0
        if job.size_bytes < LEAST_REPLY_BYTES and keep_ms <= LEAST_KEEP_MS:
            return False
        if not self._takes(job.size_bytes):
            self._counted(False)
            return False
        with self._changed:
            self._pending += 1
            self._pending_bytes += job.size_bytes
            if not self._is_started:
                self._writers.start()
                self._is_started = True
        self._writers.submit(job)
        return True

    def _takes(self, size_bytes: int) -> bool:
        if self._writers.is_worn_out or self._pending >= MOST_PENDING:
            return False
        return not self._pending or self._pending_bytes + size_bytes <= MOST_PENDING_BYTES

    def drain(self) -> None:
        """Wait until everything that was taken has been handed back."""
        with self._changed:
            self._changed.wait_for(lambda: not self._pending)

    def _work(self, job: Job) -> Deliver:
        assert isinstance(job, _Kept)
        completions = job.completions
        if not self._writers.is_worn_out:
            try:
                completions = self._stored(job)
                self._has_complained = False
            except StoreError as error:
                self._complain(str(error))
        return partial(self._deliver, job, completions)

    def _stored(self, job: _Kept) -> Sequence[Completion]:
        """Put a reply into the store; returns completions that say where it is."""
        first = job.completions[0]
        place = stored_reply(first.request_id, secrets.token_hex(4), len(first.reply))
        self._store.put(place.key(self._model_name, first.lane), first.reply, first.expiry_ms / 1000 + SLACK_S)
        whole = decode_reply(first.reply)
        short = msgspec.structs.replace(whole, predictions=None, outputs=None, warnings=(), at_store=place.text())
        reply = encode_reply(short)
        return [msgspec.structs.replace(one, reply=reply) for one in job.completions]

    def _complain(self, why: str) -> None:
        if not self._has_complained:
            log.warning("Results stay in Redis, as far as it has room for them: %s", why)
        self._has_complained = True

    def _give_up(self, job: Job) -> None:
        assert isinstance(job, _Kept)
        self._complain(f"The result store has not answered for {LONGEST_PUT_S:g} s.")
        self._deliver(job, job.completions)

    def _deliver(self, job: _Kept, completions: Sequence[Completion]) -> None:
        self._counted(completions is not job.completions)
        try:
            job.commit(completions)
        finally:
            with self._changed:
                self._pending -= 1
                self._pending_bytes -= job.size_bytes
                self._changed.notify_all()
