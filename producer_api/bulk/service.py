"""Batches as the routes see them: take one in, say how it stands, read its results, cancel it [I/O]."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence

from producer_api.inference.context import AppContext
from producer_api.inference.negotiation import IMAGES
from producer_api.lane_choice import LaneChoice
from producer_api.parsing.bulk_schemas import BatchInfo, BatchList, State
from producer_api.queue.admission import check_lane, check_open_lane, find_model, not_served, refusal
from shared.redis.client import AsyncClient, RedisError, connect_async
from shared.results.store import Store, StoreError
from shared.settings import Settings
from shared.state.cards import Card
from shared.wire.outcomes import (
    BATCH_ENDED,
    BODY_TOO_LARGE,
    DRAINING,
    NO_RESULT_STORE,
    OVERLOADED,
    QUEUE_UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    RequestError,
)

from .dialect import NATIVE_ITEMS, Dialect
from .keeper import Keeper
from .preparing import GAPS_TTL_MS, TTL_MS, Preparing
from .readers.items import Reader
from .readers.jsonl import JsonLines
from .readers.multipart import Multipart, boundary_of
from .readers.zips import Zip
from .receiving import Receiving
from .record import Fields, Record, info_of
from .registry import Claim, Registry
from .results import Readers, Results
from .store_room import StoreRoom, folder, results_folder

log = logging.getLogger(__name__)

JSON_LINES = ("application/jsonl", "application/x-ndjson", "application/x-jsonlines", "application/jsonlines")
MULTIPART = ("multipart/form-data", "multipart/mixed")
ZIPS = ("application/zip", "application/x-zip-compressed")
MOST_UPLOADS = 8
"""Uploads that come in at once; each holds a part in memory."""

LEASES = 2
"""A batch's lease, in leases of a consumer."""

LINE_SHARE = 4 / 3
"""A line may have the largest body in base64, and something around it."""


class Bulk:
    """The batches of a front end.

    Args:
        store: where items and results lie; None: there is none, and no batch is taken.
        dialect_of: returns the dialect of a batch whose record has these terms.
    """

    def __init__(
        self,
        settings: Settings,
        context: AppContext,
        store: Store | None,
        dialect_of: Callable[[str], Dialect] = lambda terms: NATIVE_ITEMS,
    ) -> None:
        self._dialect_of = dialect_of
        self._settings, self._context, self._store = settings, context, store
        self._uploads, self._readers = 0, Readers()
        self._lease_ms = LEASES * settings.lease_ms
        self._client: AsyncClient | None = None

    async def start(self) -> None:
        """Connect, and begin to look after batches."""
        if self._store is None:
            return
        settings = self._settings
        self._client = connect_async(
            settings.redis_address, settings.socket_timeout_s, settings.redis_ping_s, is_spared=True
        )
        self._room = StoreRoom(self._store)
        self._registry = Registry(self._client, settings.socket_timeout_s)
        catalogue = self._context.queue.catalogue
        # A connection of its own: a driver's writes must not wait behind clients' questions.
        self._keeping = Registry(self._client, settings.socket_timeout_s)
        self._keeper = Keeper(self._room, self._keeping, self._client, catalogue, settings.lane_limit, self._lease_ms)
        self._keeper.start()

    async def close(self) -> None:
        """Hand the batches over, and stop."""
        if self._client is None:
            return
        await self._keeper.close()
        await self._registry.close()
        await self._keeping.close()
        await self._client.aclose()
        self._room.close()

    def _check(self) -> None:
        if self._client is None:
            raise RequestError(
                NO_RESULT_STORE, "Batches need a result store: set HEADRACE_RESULTS to a folder or a bucket."
            )

    def admit(
        self, model: str, choice: LaneChoice, content_type: bytes, declared_bytes: int | None
    ) -> tuple[Card, Reader]:
        """Check what can be checked before an upload is read; returns the model's card, and what reads the upload.

        Raises:
            RequestError: no batch is taken in now, or none like this.
        """
        self._check()
        catalogue = self._context.queue.catalogue()
        state = find_model(catalogue, model, "")
        if not catalogue.redis_ok:
            raise refusal(QUEUE_UNAVAILABLE, "Redis does not answer.")
        if state.card is None:
            raise not_served(state)
        if choice.client is None:
            check_open_lane(state, choice.lane)
        check_lane(state, choice.lane)
        if state.serving == "draining":
            raise refusal(DRAINING, f"Model {model!r} is being drained and takes no requests.")
        if declared_bytes is not None and declared_bytes > self.most_bytes:
            raise too_large(self.most_bytes)
        return state.card, self._reader(content_type, state.card)

    @property
    def most_bytes(self) -> int:
        """Bytes of an upload at most."""
        return self._settings.bulk_mb << 20

    def _reader(self, content_type: bytes, card: Card) -> Reader:
        kind = content_type.decode("latin-1").partition(";")[0].strip().lower()
        most_bytes = self._settings.max_body_bytes
        if kind in JSON_LINES:
            return JsonLines(int(most_bytes * LINE_SHARE) + 4096)
        if kind in MULTIPART:
            return Multipart(boundary_of(content_type), most_bytes)
        if kind in ZIPS:
            if not any(image in card.content_types for image in IMAGES):
                raise RequestError(
                    UNSUPPORTED_MEDIA_TYPE, f"Model {card.name!r} takes no photographs.", field="Content-Type"
                )
            return Zip(most_bytes, self.most_bytes)
        takes = ", ".join((JSON_LINES[0], *MULTIPART[:1], ZIPS[0]))
        raise RequestError(
            UNSUPPORTED_MEDIA_TYPE, f"A batch comes as {takes}, not {kind[:80] or 'nothing'}.", field="Content-Type"
        )

    async def take(
        self,
        model: str,
        choice: LaneChoice,
        card: Card,
        reader: Reader,
        query: bytes,
        keep_ms: int,
        hook: str,
        chunks: AsyncIterator[bytes],
        dialect: Dialect = NATIVE_ITEMS,
        more: Fields | None = None,
    ) -> BatchInfo:
        """Read an upload to its end; returns the batch, which will run.

        Args:
            dialect: that its items are written in.
            more: members of its record besides those that every batch has.

        Raises:
            RequestError: the upload is refused, and nothing of it is left.
        """
        if self._uploads >= MOST_UPLOADS:
            raise RequestError(
                OVERLOADED, f"This front end is receiving {self._uploads} batches already.", retry_after_s=1
            )
        self._uploads += 1
        lane = choice.lane
        try:
            batch_id = f"b-{secrets.token_hex(12)}"
            fields: dict[str, str | int] = {"keep_ms": keep_ms, "hook": hook, **(more or {})}
            state, ttl_ms = self._context.queue.catalogue().models.get(model), TTL_MS
            if state is not None and lane in state.batch_lanes:
                fields["urgent"], ttl_ms = 0, min(GAPS_TTL_MS, int(fields.get("window_ms", 0)) or GAPS_TTL_MS)
            await self._registry.open(model, lane, batch_id, self._lease_ms, fields)
            claim = Claim(model, lane, batch_id, "1")
            preparing = Preparing(self._context, card, model, batch_id, query, dialect, ttl_ms)
            receiving = Receiving(
                self._room,
                self._registry,
                claim,
                preparing,
                self._settings.bulk_items,
                self.most_bytes,
                self._lease_ms,
            )
            try:
                await receiving.receive(chunks, reader)
            except BaseException:
                await asyncio.shield(self._drop(claim))
                raise
            self._keeper.look()
            log.info("Batch %s of model %s has %d items.", batch_id, model, receiving.total)
            return await self.status(model, choice, batch_id)
        finally:
            self._uploads -= 1

    async def _drop(self, claim: Claim) -> None:
        """Delete what came in of an upload that is refused; what this cannot reach, a keeper deletes."""
        try:
            await self._room.delete_below(folder(claim.model, claim.lane, claim.id))
            await self._registry.forget(claim)
        except (StoreError, RedisError, OSError) as error:
            log.debug("Batch %s is deleted later: %s", claim.id, error)

    async def status(self, model: str, choice: LaneChoice, batch_id: str) -> BatchInfo:
        """Say how a batch stands."""
        record, now_ms = await self.find(model, choice, batch_id)
        return info_of(record, now_ms)

    async def find(self, model: str, choice: LaneChoice, batch_id: str) -> tuple[Record, float]:
        """Return the record of a batch, and Redis's time in ms."""
        self._check()
        return await self._registry.find(model, self._lanes(model, choice), batch_id)

    def _lanes(self, model: str, choice: LaneChoice) -> Sequence[str]:
        """Return the lanes of a model in which a client's batches may be."""
        state = self._context.queue.catalogue().models.get(model)
        return choice.lanes(() if state is None else state.batch_lanes)

    async def latest(self, model: str, choice: LaneChoice) -> list[Record]:
        """Return the records of a client's latest batches, the latest first."""
        self._check()
        return (await self._registry.list(model, self._lanes(model, choice)))[0]

    async def list(self, model: str, choice: LaneChoice) -> BatchList:
        """Return a client's latest batches."""
        self._check()
        find_model(self._context.queue.catalogue(), model, "")
        records, now_ms = await self._registry.list(model, self._lanes(model, choice))
        return BatchList([info_of(record, now_ms) for record in records])

    async def cancel(self, model: str, choice: LaneChoice, batch_id: str) -> BatchInfo:
        """Have a batch run nothing more.

        Raises:
            RequestError: ``UNKNOWN_BATCH``, ``BATCH_ENDED``.
        """
        self._check()
        record, _ = await self.find(model, choice, batch_id)
        stood = await self._registry.cancel(model, record.lane, batch_id)
        if stood not in (State.QUEUED, State.RUNNING, State.CANCELLING):
            raise RequestError(BATCH_ENDED, f"The batch is {stood}; there is nothing to cancel.")
        return await self.status(model, choice, batch_id)

    async def results(self, model: str, choice: LaneChoice, batch_id: str) -> Results:
        """Return what reads a batch's results."""
        self._check()
        self._readers.check()
        record, _ = await self.find(model, choice, batch_id)
        listed = await self._registry.find_parts(record)
        place = results_folder(model, record.lane, batch_id)
        step_runner = self._context.step_runner
        of_all = (self._room, step_runner, self._readers)
        return Results(*of_all, place, listed, record.total, self._dialect_of(record.terms), has_ended=record.has_ended)


def too_large(most_bytes: int) -> RequestError:
    """Make the error for an upload over the limit."""
    return RequestError(
        BODY_TOO_LARGE, f"An upload has at most {most_bytes} bytes; send several batches.", field="body"
    )
