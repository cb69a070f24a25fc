"""Bodies that lie in the result store [I/O]: read on threads of their own, before their rows are made.

Neither the device nor other requests wait for the store. What cannot be read, or not in time, ends its request alone.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Final

import msgspec

from consumer.pipeline.context import Context
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.decoding.threads import Decoders, Deliver, Job, NewThread
from consumer.pipeline.intake import Intake
from consumer.pipeline.items import Item, Refusal, Refused, refuse
from shared.results.references import StoredBody, parse_body
from shared.results.store import Store, StoreError, StoreMissing, StoreTooLarge
from shared.wire.outcomes import MALFORMED, OVERLOADED, STORE_UNAVAILABLE, RequestError, invalid

log = logging.getLogger(__name__)

THREADS: Final = 2
LONGEST_READ_S: Final = 20.0
"""For the whole of a body."""

LONGEST_WAIT_S: Final = 5.0
"""For the memory that a body takes."""

GONE = "The stored body is not there any more, or has changed; upload it again, or let it be fetched again."


class BodyRoom:
    """Memory for bodies of requests that have not ended. Any thread may call it."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self._used_bytes = most_bytes, 0
        self._changed = threading.Condition()

    def take(self, size_bytes: int, timeout_s: float) -> HeldRoom | None:
        """Wait for room; it is free again once what is returned is garbage. None when there is none in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._used_bytes + size_bytes <= self.most_bytes, timeout_s):
                return None
            self._used_bytes += size_bytes
        return HeldRoom(self, size_bytes)

    def give_back(self, size_bytes: int) -> None:
        """Free room."""
        with self._changed:
            self._used_bytes -= size_bytes
            self._changed.notify_all()


class HeldRoom:
    """The memory of one body: an item holds it as long as it lives, however it ends."""

    def __init__(self, room: BodyRoom, size_bytes: int) -> None:
        self._room, self._size_bytes = room, size_bytes

    def __del__(self) -> None:
        self._room.give_back(self._size_bytes)


class BodyFetching:
    """The stage before decoding, for requests whose body is in the store.

    Args:
        send: takes requests that end here.
        pass_on: takes those whose body is here.
        new_thread: makes a thread whose crash ends the process. They are started with the first request.
    """

    def __init__(
        self,
        context: Context,
        rows: Rows,
        intake: Intake,
        send: Callable[[Sequence[Refused]], None],
        pass_on: Callable[[Item], None],
        new_thread: NewThread,
    ) -> None:
        settings = context.settings
        self._context, self._rows, self._intake, self._send, self._pass_on = context, rows, intake, send, pass_on
        self._store, self._most_bytes = context.store, settings.large_body_mb << 20
        self._room = BodyRoom(max(self._most_bytes, settings.decode_memory_mb << 20))
        self._readers = Decoders(
            self._fetch,
            self._give_up,
            self._give_up,
            lambda: None,
            new_thread,
            THREADS,
            LONGEST_READ_S,
            1,
            "store-body",
        )
        self._is_started = False

    @property
    def is_busy(self) -> bool:
        """Say whether a thread reads, or hangs."""
        return self._readers.is_busy

    def shutdown(self) -> None:
        """Finish what is here, except what hangs."""
        if self._is_started:
            self._readers.shutdown()

    def add(self, item: Item) -> None:
        """Read the body of ``item``, and pass it on."""
        if item.is_isolated:
            self._intake.begin_decoding_isolated()
        else:
            self._intake.room_of(item).begin_decoding(1, item.entry.lane)
        if self._store is None or self._readers.is_worn_out:
            has_none = "has no result store (HEADRACE_RESULTS)" if self._store is None else "gets no answer of it"
            error = RequestError(STORE_UNAVAILABLE, f"The body is in a result store, and this consumer {has_none}.")
            self._refuse(item, refuse(item, error))
            return
        if not self._is_started:
            self._is_started = True
            self._readers.start()
        self._readers.submit(Job(item))

    def _fetch(self, job: Job) -> Deliver:
        item = job.item
        try:
            self._rows.check_due(item, monotonic())
            assert self._store is not None
            self._read(item, self._place_of(item), self._store)
        except Refusal as refusal:
            return partial(self._refuse, item, refusal.refused)
        return partial(self._fetched, item)

    def _place_of(self, item: Item) -> StoredBody:
        place = parse_body(item.request.at_store or "")
        if place is None:
            raise Refusal(item, RequestError(MALFORMED, "at_store must say where a body is.", field="at_store"))
        if place.size_bytes > self._most_bytes:
            most_mb = self._most_bytes >> 20
            raise Refusal(item, invalid(f"The stored body is larger than {most_mb} MiB, the most read here.", "body"))
        return place

    def _read(self, item: Item, place: StoredBody, store: Store) -> None:
        held = self._room.take(place.size_bytes, LONGEST_WAIT_S)
        if held is None:
            error = RequestError(OVERLOADED, "Too many large bodies are here already; send this one again later.")
            raise Refusal(item, error)
        try:
            body = read_body(store, place, item.entry.lane)
        except (StoreMissing, StoreTooLarge):
            raise Refusal(item, invalid(GONE, "body")) from None
        except StoreError as error:
            log.warning("Request %s: %s", item.request.id, error, extra=item.about())
            raise Refusal(item, RequestError(STORE_UNAVAILABLE, "The stored body cannot be read now.")) from None
        if body is None:
            raise Refusal(item, invalid(GONE, "body"))
        item.request = msgspec.structs.replace(item.request, body=body, at_store=None)
        item.held = held

    def _fetched(self, item: Item) -> None:
        self._pass_on(item)  # which reserves room for it anew, before this reservation is given up
        if not item.is_isolated:
            self._intake.room_of(item).end_decoding(None, item.entry.lane)

    def _give_up(self, job: Job) -> None:
        log.error("The body of request %s was not read in %g s.", job.item.request.id, LONGEST_READ_S)
        error = RequestError(STORE_UNAVAILABLE, "The result store did not answer in time.")
        self._refuse(job.item, refuse(job.item, error))

    def _refuse(self, item: Item, refused: Refused) -> None:
        self._send([refused])
        if item.is_isolated:
            self._intake.add_isolated(None)
        else:
            self._intake.room_of(item).end_decoding(None, item.entry.lane)


def read_body(store: Store, place: StoredBody, lane: str) -> bytes | None:
    """Return a body out of its parts; None if it is not the one that was stored.

    Raises:
        StoreError: it cannot be read.
    """
    digest, left, parts = hashlib.sha256(), place.size_bytes, []
    for key in place.keys(lane):
        part = store.get(key, left)
        digest.update(part)
        left -= len(part)
        parts.append(part)
    return None if left or digest.hexdigest() != place.sha256 else b"".join(parts)
