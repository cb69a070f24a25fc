"""/v1/uploads: large bodies in parts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from producer_api.http import body as bodies
from producer_api.load.body_budget import BodyBudget, IncomingBody
from producer_api.parsing.schemas import NewUpload, UploadState
from producer_api.store.large_bodies import owner_for
from producer_api.store.uploads import Owner, Upload, Uploads
from shared.wire.outcomes import CLIENT_CLOSED, NOT_FOUND, OVERLOADED, RequestError, invalid, malformed

from .models import json_response

PATH = "/v1/uploads"
ONE = "/v1/uploads/{id}"
PART = "/v1/uploads/{id}/parts/{number}"
COMPLETE = "/v1/uploads/{id}/complete"

METHODS = {PATH: ("POST",), ONE: ("GET", "DELETE"), PART: ("PUT",), COMPLETE: ("POST",)}
"""The paths, and what they take."""

MOST_DOCUMENT_BYTES = 4096
MOST_BEING_STORED = 16
"""Parts that wait for the store, in memory, at a time."""


_decoder = msgspec.json.Decoder(NewUpload)


class UploadRoutes:
    """The routes.

    Args:
        uploads: None for a front end without a result store.
    """

    def __init__(self, uploads: Uploads | None, budget: BodyBudget) -> None:
        self._uploads, self._budget, self._being_stored = uploads, budget, 0

    async def answer(self, request: Request) -> Response:
        """Answer a request for any of the paths."""
        try:
            return await self._answer(request)
        except bodies.Disconnected:
            return Response(status_code=CLIENT_CLOSED.status)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["route"].path
        if path == PATH:
            return await self._begin(request)
        if path == PART:
            return await self._part(request)
        return await (self._complete(request) if path == COMPLETE else self._one(request))

    async def _begin(self, request: Request) -> Response:
        """Begin an upload."""
        uploads, owner = self._of(request)
        try:
            new = _decoder.decode(await self._body(request, MOST_DOCUMENT_BYTES))
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$.")
            raise invalid(f"{what}.", where.rstrip("`") or "body") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise malformed('Begin an upload with a JSON object such as {"bytes": 20000000}.', "body") from None
        upload = await uploads.begin(owner, new.bytes, new.sha256, new.part_bytes)
        response = json_response(_state(upload), 201)
        response.headers["Location"] = f"{PATH}/{upload.id}"
        return response

    async def _one(self, request: Request) -> Response:
        """Say how an upload stands, or delete it."""
        uploads, owner = self._of(request)
        if request.method == "DELETE":
            await uploads.delete(owner, request.path_params["id"])
            return Response(status_code=204)
        return json_response(_state(await uploads.find(owner, request.path_params["id"])))

    async def _part(self, request: Request) -> Response:
        """Take a part."""
        uploads, owner = self._of(request)
        number = request.path_params["number"]
        if not (number.isascii() and number.isdigit() and len(number) <= 6):
            raise invalid("The number of a part is a whole number from 1 on.", "number")
        await uploads.find(owner, request.path_params["id"])  # before the part comes
        part = await self._body(request, uploads.part_bytes)
        if self._being_stored >= MOST_BEING_STORED:
            raise RequestError(OVERLOADED, "Too many parts are being stored here; send this one again.")
        self._being_stored += 1
        try:
            await uploads.put(owner, request.path_params["id"], int(number), part)
        finally:
            self._being_stored -= 1
        return Response(status_code=204)

    async def _complete(self, request: Request) -> Response:
        """Check the whole body."""
        uploads, owner = self._of(request)
        await self._body(request, MOST_DOCUMENT_BYTES)
        return json_response(_state(await uploads.complete(owner, request.path_params["id"])))

    def _of(self, request: Request) -> tuple[Uploads, Owner]:
        if self._uploads is None:
            message = "This front end has no result store (HEADRACE_RESULTS), so it takes no uploads."
            raise RequestError(NOT_FOUND, message)
        return self._uploads, owner_for(request.scope.get("api_client"))

    async def _body(self, request: Request, most_bytes: int) -> bytes:
        length = bodies.declared_bytes(dict(request.scope["headers"]))
        return await bodies.read(request.receive, length, most_bytes, self._arriving)

    @contextmanager
    def _arriving(self) -> Iterator[IncomingBody]:
        incoming = self._budget.begin()
        try:
            yield incoming
        finally:
            incoming.end()


def _state(upload: Upload) -> UploadState:
    """Describe an upload."""
    begun, sha256 = upload.begun, upload.sha256
    return UploadState(
        upload.id,
        "open" if sha256 is None else "complete",
        begun.bytes,
        begun.part_bytes,
        begun.parts,
        sorted(upload.received),
        max(0, round(begun.expires_s - time.time())),
        UNSET if sha256 is None else sha256,
    )
