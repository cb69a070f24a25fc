"""The stage between reading and running, for requests whose rows take work to make, such as pictures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from consumer.pipeline.context import Context
from consumer.pipeline.intake import Intake
from consumer.pipeline.items import Item, Refusal, Refused, refuse
from consumer.pipeline.stored.bodies import BodyFetching
from shared.wire.outcomes import OVERLOADED, RequestError, invalid

from .isolated import count_isolated
from .rows import Rows
from .threads import Decoders, Deliver, Job, NewThread

log = logging.getLogger(__name__)


class Decoding:
    """Makes rows on threads of its own and passes on what is ready to the intake.

    A request that takes too long, or more memory than there is, gets an error. Requests taken over from another
    consumer are decoded here, too, before they run alone: decoding counts as an attempt, so one that never ends is not
    tried for ever.

    Args:
        send: takes requests that end here, without inference.
        worn_out: called when too many threads hang; the process should finish what it has.
    """

    def __init__(
        self,
        context: Context,
        rows: Rows,
        intake: Intake,
        send: Callable[[Sequence[Refused]], None],
        worn_out: Callable[[], None],
        new_thread: NewThread,
    ) -> None:
        settings = context.settings
        self._context, self._rows, self._intake, self._send = context, rows, intake, send
        self._longest_s = settings.decode_limit_ms / 1000
        self._room_bytes = settings.decode_memory_mb * 1_000_000
        self._decoders = Decoders(
            self._decode,
            self._give_up,
            self._no_room,
            worn_out,
            new_thread,
            settings.decode_threads,
            self._longest_s,
            self._room_bytes,
        )
        self._fetching = BodyFetching(context, rows, intake, send, self._add, new_thread)

    @property
    def is_busy(self) -> bool:
        """Say whether a thread is inside the model's code, or hangs there."""
        return self._decoders.is_busy or self._fetching.is_busy

    def start(self) -> None:
        """Start the threads."""
        self._decoders.start()

    def shutdown(self) -> None:
        """Finish what is here, except what hangs."""
        self._fetching.shutdown()
        self._decoders.shutdown()

    def add(self, item: Item) -> None:
        """Have the rows of ``item`` made; its body is fetched first if it is in the result store."""
        if item.request.at_store is None:
            self._add(item)
        else:
            self._fetching.add(item)

    def _add(self, item: Item) -> None:
        if item.is_isolated:
            self._intake.begin_decoding_isolated()
        else:
            self._intake.room_of(item).begin_decoding(1, item.entry.lane)
        self._decoders.submit(Job(item))

    def _decode(self, job: Job) -> Deliver:
        item, begun_s = job.item, time.monotonic()
        try:
            self._rows.check_due(item, begun_s)
            if not job.is_large:
                if item.is_isolated and not (item.has_begun or count_isolated(self._context, item)):
                    return partial(self._end, job, None)
                job.memory_bytes = self._large_bytes(item)
                if job.is_large:
                    return partial(self._set_aside, job)
            self._rows.make(item)
        except Refusal as refusal:
            return partial(self._refuse, job, refusal.refused)
        item.decode_s = time.monotonic() - begun_s
        return partial(self._end, job, item)

    def _large_bytes(self, item: Item) -> int:
        needed = self._rows.large_bytes(item)
        if needed > self._room_bytes:
            message = (
                f"Decoding this picture would take {needed / 1e6:.0f} MB, and at most {self._room_bytes / 1e6:.0f} MB "
                "are given to it; send it smaller, or as an ordinary (baseline) JPEG."
            )
            raise Refusal(item, invalid(message, "body"))
        return needed

    def _set_aside(self, job: Job) -> None:
        if not job.item.is_isolated:
            self._intake.room_of(job.item).set_apart(job.item.entry.lane)
        self._decoders.set_aside(job)

    def _give_up(self, job: Job) -> None:
        log.error("Decoding request %s was given up.", job.item.request.id, extra=job.item.about())
        message = (
            f"Decoding the input took longer than {self._longest_s:g} s and was given up; send a smaller one, and a "
            "picture as an ordinary (baseline) JPEG."
        )
        self._refuse(job, refuse(job.item, invalid(message, "inputs" if job.item.request.body is None else "body")))

    def _no_room(self, job: Job) -> None:
        message = "Too many large pictures are being decoded already; send this one again later, or smaller."
        self._refuse(job, refuse(job.item, RequestError(OVERLOADED, message)))

    def _refuse(self, job: Job, refused: Refused) -> None:
        self._send([refused])
        self._end(job, None)

    def _end(self, job: Job, done: Item | None) -> None:
        if job.item.is_isolated:
            self._intake.add_isolated(done)
        elif job.is_large:
            self._intake.room_of(job.item).end_apart(done)
        else:
            self._intake.room_of(job.item).end_decoding(done, job.item.entry.lane)
