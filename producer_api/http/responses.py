"""Responses as they are sent: as bytes on a connection, or as messages of ASGI. Nothing else puts a head together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from http import HTTPStatus

from starlette.types import Send

from producer_api.inference.codec import Headers, Response
from shared.wire.outcomes import CANCELLED

EVERYWHERE = [("x-content-type-options", "nosniff")]
"""Headers of every answer, which the server adds to those of ASGI: a browser does not take one for anything but what it
says it is."""

_LINES = b"".join(f"{name}: {value}\r\n".encode() for name, value in EVERYWHERE)
_LAST = (b"connection", b"close")
_OK = b"HTTP/1.1 200 OK\r\n" + _LINES + b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b"


def encode(response: Response, extra_lines: bytes = b"") -> bytes:
    """Return the bytes of a response.

    Args:
        extra_lines: more lines for its head, as they are sent.
    """
    body = response.body
    if response.status == 200 and response.request_id is not None and not response.is_last:
        if response.headers:
            extra_lines = _lines(response.headers) + extra_lines
        return _OK % (
            response.media_type.encode(),
            len(body),
            response.request_id.encode(),
            extra_lines,
            body,
        )
    lines = _lines(_headers(response))
    last = _lines([_LAST]) if response.is_last else b""
    return b"".join((_status_line(response.status), _LINES, lines, extra_lines, last, b"\r\n", body))


async def send(send: Send, response: Response) -> None:
    """Send a response."""
    headers = _headers(response)
    if response.events is not None:
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        async for events in response.events.events():
            await send({"type": "http.response.body", "body": events, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if response.is_last:
        headers.append(_LAST)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _headers(response: Response) -> Headers:
    headers = [
        (b"content-type", response.media_type.encode()),
        (b"content-length", str(len(response.body)).encode()),
        *response.headers,
    ]
    if response.events is not None:
        del headers[1]
    if response.request_id is not None:
        headers.append((b"x-request-id", response.request_id.encode()))
    return headers


def _lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])


@cache
def _status_line(status: int) -> bytes:
    if status == CANCELLED.status:
        return b"HTTP/1.1 %d Cancelled\r\n" % status
    return b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
