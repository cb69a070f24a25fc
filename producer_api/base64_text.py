"""Base64 as people have it: in one piece, in lines, in the alphabet of addresses, without padding, in a data: URL."""

from __future__ import annotations

import binascii
import re

from shared.outcomes import invalid

_SPACES = b" \t\r\n\f\v"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/_\-= \t\r\n\f\v]")
_BEGINNINGS = (b"data:", b"/9j/", b"iVBOR", b"UklGR")  # of a URL; of JPEG, PNG and WebP files in base64
_DATA_URL = re.compile(r"data:([^,]{0,200}),", re.IGNORECASE)


def decode(text: str, field: str) -> bytes:
    """Decode ``text``, which may be a data: URL.

    Args:
        field: what an error names.

    Raises:
        RequestError: it is not base64; one sentence that says what is wrong with it.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one; so is what characters outside ASCII raise
        return _decode_loose(text, field)


def _decode_loose(text: str, field: str) -> bytes:
    start = 0
    if text[:5].lower() == "data:":
        url = _DATA_URL.match(text)
        if url is None or not url[1].lower().endswith(";base64"):
            raise invalid(f"{field} is a data: URL without base64; it must begin like data:image/jpeg;base64,", field)
        start = url.end()
    if odd := _NOT_BASE64.search(text, start):
        raise invalid(f"{field} is not valid base64: it has {odd[0]!r} at character {odd.start()}.", field)
    letters = text[start:].encode().translate(_URL_SAFE, _SPACES)
    digits = letters.rstrip(b"=")
    if b"=" in digits:
        raise invalid(f"{field} is not valid base64: it goes on after '=', where it ends.", field)
    if len(digits) % 4 == 1 or len(letters) - len(digits) > 2:
        raise invalid(f"{field} is not valid base64: it has {len(digits)} characters, so some are missing.", field)
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)


def hint(body: bytes) -> str:
    """Return a sentence for what should be a picture and is one in base64; else nothing."""
    if not body.startswith(_BEGINNINGS):
        return ""
    return " It is base64 text: send the bytes themselves, or the text as image_base64 in a JSON body."
