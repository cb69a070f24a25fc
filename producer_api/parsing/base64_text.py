"""Base64 as people have it: in one piece, in lines, in the alphabet of addresses, without padding, in a data: URL."""

from __future__ import annotations

import binascii
import re

from shared.wire.outcomes import invalid

from .steps import Steps

PIECE = 256 * 1024
"""Characters of one step; a multiple of 4, which make 3 bytes."""

_SPACES = b" \t\r\n\f\v"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/_\-= \t\r\n\f\v]")
_BEGINNINGS = (b"data:", b"/9j/", b"iVBOR", b"UklGR")  # of a URL; of JPEG, PNG and WebP files in base64
_DATA_URL = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)


def decode_in_steps(text: str, field: str) -> Steps[bytes]:
    """Decode ``text``, which may be a data: URL, with pauses where it is long.

    Args:
        field: what an error names.

    Raises:
        RequestError: it is not base64; one sentence that says what is wrong with it.
    """
    try:
        return (yield from _in_pieces(text))
    except ValueError:  # binascii.Error is one; so is what characters outside ASCII raise
        return (yield from _decode_loose(text, field))


def _in_pieces(text: str | bytes) -> Steps[bytes]:
    if len(text) <= PIECE:
        return binascii.a2b_base64(text, strict_mode=True)
    parts: list[bytes] = []
    for start in range(0, len(text), PIECE):
        parts.append(binascii.a2b_base64(text[start : start + PIECE], strict_mode=True))
        if len(parts[-1]) % 3 and start + PIECE < len(text):
            raise ValueError("it goes on after its end")
        yield
    return b"".join(parts)


def _decode_loose(text: str, field: str) -> Steps[bytes]:
    start = 0
    if text[:5].lower() == "data:":
        url = _DATA_URL.match(text)
        if url is None or not url[1].lower().endswith(";base64"):
            raise invalid(f"{field} is a data: URL without base64; it must begin like data:image/jpeg;base64,", field)
        start = url.end()
    parts: list[bytes] = []
    for at in range(start, len(text), PIECE):
        if odd := _NOT_BASE64.search(text, at, at + PIECE):
            raise invalid(f"{field} is not valid base64: it has {odd[0]!r} at character {odd.start()}.", field)
        parts.append(text[at : at + PIECE].encode().translate(_URL_SAFE, _SPACES))
        yield
    letters = b"".join(parts)
    digits = letters.rstrip(b"=")
    if b"=" in digits:
        raise invalid(f"{field} is not valid base64: it goes on after '=', where it ends.", field)
    if len(digits) % 4 == 1 or len(letters) - len(digits) > 2:
        raise invalid(f"{field} is not valid base64: it has {len(digits)} characters, so some are missing.", field)
    return (yield from _in_pieces(digits + b"=" * (-len(digits) % 4)))


def hint(body: bytes) -> str:
    """Return a sentence for what should be a picture and is one in base64; else nothing."""
    if not body.startswith(_BEGINNINGS):
        return ""
    return " It is base64 text: send the bytes themselves, or the text as image_base64 in a JSON body."
