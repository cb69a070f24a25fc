"""/v1/files: files that batches are made of, and those that hold their results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from producer_api.bulk.openai.documents import (
    FileDeleted,
    FileList,
    FileObject,
    file_object,
    results_object,
    results_of,
)
from producer_api.bulk.openai.files import LONGEST_KEEP_S, Files, Upload
from producer_api.bulk.openai.form import Form, Piece
from producer_api.bulk.openai.service import OpenAIBatches, lines_of, page
from producer_api.bulk.readers.multipart import boundary_of
from producer_api.http.body import Disconnected, declared_bytes
from producer_api.lane_choice import own_lane
from producer_api.queue.admission import refusal
from shared.wire.outcomes import BODY_TOO_LARGE, CLIENT_CLOSED, OVERLOADED, RequestError, invalid

from .batches import chunks_of
from .models import NOT_KEPT, json_response
from .requests import choice_of

LIST_PATH = "/v1/files"
PATH = LIST_PATH + "/{id}"
CONTENT_PATH = PATH + "/content"

MOST_UPLOADS = 8
"""Uploads that come in at once; each holds a piece in memory."""

_HEAD_BYTES = 64 * 1024
_AT_ONCE = 4
PURPOSE = "batch"
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"


class _Id(NamedTuple):
    id: str


class FileRoutes:
    """The routes."""

    def __init__(self, files: Files, batches: OpenAIBatches) -> None:
        self._files, self._batches, self._uploads = files, batches, 0

    async def all(self, request: Request) -> Response:
        """Take a file in, or list those there are."""
        lane = own_lane(request.scope.get("api_client"))
        if request.method == "GET":
            return json_response(await self._list(request, lane))
        headers = dict(request.scope["headers"])
        form = Form(boundary_of(headers.get(b"content-type", b"")))
        length = declared_bytes(headers)
        if length is not None and length > self._files.most_bytes + _HEAD_BYTES:
            raise RequestError(BODY_TOO_LARGE, f"A file has at most {self._files.most_bytes} bytes.", field="file")
        await self._files.check_room(lane)
        if self._uploads >= MOST_UPLOADS:
            raise refusal(OVERLOADED, f"This front end is receiving {self._uploads} files already.")
        self._uploads += 1
        upload = _Upload(form)
        try:
            async with aclosing(chunks_of(request.receive)) as chunks, aclosing(upload.file(chunks)) as pieces:
                record = await self._files.save(lane, pieces, upload.described, int(time.time()))
        except Disconnected:
            return Response(status_code=CLIENT_CLOSED.status)
        finally:
            self._uploads -= 1
        return json_response(file_object(record))

    async def _list(self, request: Request, lane: str) -> FileList:
        limit = limit_of(request, 10_000)
        ids = [_Id(file_id) for file_id in await self._files.ids(lane)]
        if request.query_params.get("purpose", PURPOSE) != PURPOSE:
            ids = []
        some, has_more, first, last = page(ids, request.query_params.get("after"), limit)
        found: list[FileObject] = []
        for start in range(0, len(some), _AT_ONCE):
            finding = (self._files.find(lane, one.id) for one in some[start : start + _AT_ONCE])
            records = await asyncio.gather(*finding, return_exceptions=True)
            found += [file_object(one) for one in records if not isinstance(one, BaseException)]  # else it is gone now
        return FileList(found, has_more, first, last)

    async def one(self, request: Request) -> Response:
        """Describe a file, or delete it."""
        lane, file_id = own_lane(request.scope.get("api_client")), request.path_params["id"]
        results = results_of(file_id)
        if request.method == "DELETE":
            if results is not None:
                raise invalid("Results go by themselves when their time is over.", "id")
            await self._files.delete(lane, file_id)
            return json_response(FileDeleted(file_id))
        if results is None:
            return json_response(file_object(await self._files.find(lane, file_id)))
        return json_response(await self._results_object(request, *results))

    async def _results_object(self, request: Request, model: str, batch_id: str, errors: bool) -> FileObject:
        record, results = await self._batches.results(choice_of(request), model, batch_id)
        return results_object(record, results.size_bytes, errors=errors)

    async def content(self, request: Request) -> Response:
        """Send what is in a file."""
        lane, file_id = own_lane(request.scope.get("api_client")), request.path_params["id"]
        found = results_of(file_id)
        if found is None:
            record = await self._files.find(lane, file_id)
            pieces = self._files.pieces(lane, record)
            headers = {"Content-Length": str(record.size_bytes), **NOT_KEPT}
            return StreamingResponse(pieces, headers=headers, media_type="application/octet-stream")
        model, batch_id, errors = found
        _, results = await self._batches.results(choice_of(request), model, batch_id)
        return StreamingResponse(lines_of(results, errors=errors), headers=NOT_KEPT, media_type="application/jsonl")


class _Upload:
    """A form on its way in: its fields, and its file as it comes."""

    def __init__(self, form: Form) -> None:
        self._form, self._fields = form, dict[str, str]()
        self._file_name: str | None = None

    async def file(self, chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Go through the file.

        Raises:
            RequestError: the form is none, or has no file, or several.
        """
        is_over = False
        async for chunk in chunks:
            for piece in self._form.feed(chunk):
                assert isinstance(piece, Piece)
                if piece.file_name is None:
                    self._fields[piece.name] = piece.body.decode("utf-8", "replace")
                    is_over = self._file_name is not None
                    continue
                if piece.name != "file" or is_over:
                    raise invalid("A form has one file, in the field file.", "file")
                self._file_name = piece.file_name
                yield piece.body
        for _ in self._form.close():
            pass

    def described(self) -> Upload:
        """Return what the fields say.

        Raises:
            RequestError: ``INVALID_INPUT``.
        """
        fields = self._fields
        if self._file_name is None:
            raise invalid("A form has one file, in the field file.", "file")
        if fields.get("purpose") != PURPOSE:
            raise invalid(f"The purpose of a file is {PURPOSE}.", "purpose")
        for name in fields:
            if name not in ("purpose", _ANCHOR, _SECONDS):
                raise invalid(f"The parameter {name[:80]!r} is not known here.", name[:80])
        seconds = fields.get(_SECONDS, str(LONGEST_KEEP_S))
        if not (seconds.isascii() and seconds.isdigit() and 3600 <= int(seconds[:10]) <= LONGEST_KEEP_S):
            raise invalid(f"A file stays from 3600 to {LONGEST_KEEP_S} seconds.", "expires_after.seconds")
        if fields.get(_ANCHOR, "created_at") != "created_at":
            raise invalid("The anchor is created_at.", "expires_after.anchor")
        return Upload(self._file_name, PURPOSE, int(seconds))


def limit_of(request: Request, most: int) -> int:
    """Return how many members of a list are asked for.

    Raises:
        RequestError: ``INVALID_INPUT``.
    """
    text = request.query_params.get("limit", "20" if most < 1000 else str(most))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:10]) <= most):
        raise invalid(f"limit is a number from 1 to {most}.", "limit")
    return int(text)
