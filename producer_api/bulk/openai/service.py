"""Batches of OpenAI's API over bulk batches [I/O]."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct

from producer_api.bulk.readers.jsonl import JsonLines
from producer_api.bulk.record import Record
from producer_api.bulk.results import Order, Results
from producer_api.bulk.service import Bulk
from producer_api.inference.openai.documents import checked_name
from producer_api.lane_choice import LaneChoice, own_lane
from producer_api.later.preferences import duration_ms
from producer_api.parsing.bulk_schemas import State
from producer_api.queue.interface import Queue
from shared.wire.outcomes import UNKNOWN_BATCH, RequestError, invalid

from .documents import BatchObject, BatchPage, BatchRequest, batch_object, check_metadata, names_of
from .files import Files
from .terms import CODECS, ITEMS, Terms, terms_of

KEEP_MS = 7 * 86_400_000
"""How long results stay."""

_MOST_LISTED = 100
_MOST_LINE_BYTES = 4 * 1024 * 1024
_JSON_LINES = b"application/jsonl"
_ALL = 1 << 62


class _Body(Struct, frozen=True):
    model: str


class _Line(Struct, frozen=True):
    body: _Body


_line = msgspec.json.Decoder(_Line)


class OpenAIBatches:
    """The batches that were made of files."""

    def __init__(self, bulk: Bulk, files: Files, queue: Queue) -> None:
        self._bulk, self._files, self._queue = bulk, files, queue

    async def create(self, choice: LaneChoice, asked: BatchRequest) -> BatchObject:
        """Make a batch of a file's lines.

        Raises:
            RequestError: something about the file, or about what was asked.
        """
        if asked.endpoint not in CODECS:
            raise invalid(f"A batch's endpoint is one of {', '.join(CODECS)}.", "endpoint")
        check_metadata(asked.metadata)
        try:
            window_ms = duration_ms(asked.completion_window.encode("latin-1", "replace"))
        except RequestError:
            raise invalid("completion_window is a time such as 24h: from 1s to 7d.", "completion_window") from None
        try:
            file = await self._files.find(own_lane(choice.client), asked.input_file_id)
        except RequestError as error:
            error.field = "input_file_id"
            raise
        async with aclosing(self._files.pieces(own_lane(choice.client), file)) as pieces:
            begin, model = await _first_line(pieces)
            card, reader = self._bulk.admit(model, choice, _JSON_LINES, file.size_bytes)
            assert isinstance(reader, JsonLines)
            terms = Terms(asked.endpoint, file.id, asked.completion_window, asked.metadata)
            keep = asked.output_expires_after
            info = await self._bulk.take(
                model,
                choice,
                card,
                reader,
                b"",
                KEEP_MS if keep is None else 1000 * keep.seconds,
                "",
                _joined(begin, pieces),
                dialect=ITEMS[asked.endpoint],
                more={"window_ms": window_ms, "terms": msgspec.json.encode(terms).decode()},
            )
        return (await self._found(model, choice, info.id))[0]

    async def retrieve(self, choice: LaneChoice, batch: str) -> BatchObject:
        """Describe a batch."""
        model, batch_id = names_of(batch)
        return (await self._found(model, choice, batch_id))[0]

    async def cancel(self, choice: LaneChoice, batch: str) -> BatchObject:
        """Have a batch run nothing more.

        Raises:
            RequestError: ``UNKNOWN_BATCH``, ``BATCH_ENDED``.
        """
        model, batch_id = names_of(batch)
        await self._found(model, choice, batch_id)
        await self._bulk.cancel(model, choice, batch_id)
        return (await self._found(model, choice, batch_id))[0]

    async def list(self, choice: LaneChoice, after: str | None, limit: int) -> BatchPage:
        """Return a client's batches, whatever their model, the latest first."""
        records: list[tuple[Record, Terms]] = []
        for model in sorted(self._queue.catalogue().models):
            for record in await self._bulk.latest(model, choice):
                terms = terms_of(record.terms)
                if terms is not None:
                    records.append((record, terms))
        records.sort(key=lambda pair: (-pair[0].receiving_ms, pair[0].id))
        objects = [batch_object(*pair) for pair in records]
        return BatchPage(*page(objects, after, min(limit, _MOST_LISTED)))

    async def results(self, choice: LaneChoice, model: str, batch_id: str) -> tuple[Record, Results]:
        """Return what reads the results of a batch that has ended.

        Raises:
            RequestError: ``UNKNOWN_BATCH``.
        """
        _, record = await self._found(model, choice, batch_id)
        if record.state not in (State.COMPLETED, State.CANCELLED, State.FAILED):
            raise RequestError(UNKNOWN_BATCH, "The batch has not ended yet.", field="id")
        return record, await self._bulk.results(model, choice, batch_id)

    async def _found(self, model: str, choice: LaneChoice, batch_id: str) -> tuple[BatchObject, Record]:
        record, _ = await self._bulk.find(model, choice, batch_id)
        terms = terms_of(record.terms)
        if terms is None:
            raise RequestError(UNKNOWN_BATCH, "That batch was not made of a file.", field="id")
        return batch_object(record, terms), record


async def lines_of(results: Results, *, errors: bool) -> AsyncIterator[bytes]:
    """Go through the lines of a file of results."""
    with results.being_read():
        async for chunk in results.chunks(Order.INPUT, 0, _ALL, failed=errors):
            yield chunk


class _Listed(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_Listed)


def page(objects: list[T], after: str | None, limit: int) -> tuple[list[T], bool, str | None, str | None]:
    """Cut a page out of a list whose members have ids.

    Args:
        after: id of the last one of the page before; None for the first page.

    Returns:
        The page, whether more follow, the first id and the last.

    Raises:
        RequestError: ``INVALID_INPUT``: ``after`` is not in the list.
    """
    start = 0
    if after is not None:
        start = 1 + next((index for index, one in enumerate(objects) if one.id == after), len(objects))
        if start > len(objects):
            raise invalid(f"There is nothing with the id {after[:80]!r}.", "after")
    some = objects[start : start + limit]
    return some, start + limit < len(objects), some[0].id if some else None, some[-1].id if some else None


async def _first_line(pieces: AsyncGenerator[bytes]) -> tuple[bytes, str]:
    """Return the beginning of a file, and the model that its first line names."""
    begin = b""
    async for piece in pieces:
        begin += piece
        line = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
        if b"\n" in line or len(line) > _MOST_LINE_BYTES:
            break
    first = begin.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    try:
        return begin, checked_name(_line.decode(first).body.model)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid("The file's first line names no model in its body.", "input_file_id") from None


async def _joined(begin: bytes, pieces: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    yield begin
    async for piece in pieces:
        yield piece
