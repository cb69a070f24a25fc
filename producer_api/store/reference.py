"""A body by reference: the document that stands in for a body, and says where it is. Pure."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from shared.wire.outcomes import invalid, malformed

MEDIA_TYPE: Final = "application/vnd.headrace.reference+json"
MOST_BYTES: Final = 16 * 1024

Place = Annotated[str, Meta(min_length=1, max_length=2048)]


class Reference(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a body is; exactly one of ``upload``, ``url``, ``file`` and ``s3``.

    Attributes:
        content_type: of the body.
        upload: id of an upload of the same API key.
        url: of an allowed origin.
        file: path in an allowed folder of the front end.
        s3: ``s3://bucket/key`` in an allowed bucket.
        sha256: of the body, in hexadecimal; checked if it is there.
        bytes: length of the body; checked if it is there.
    """

    content_type: Annotated[str, Meta(min_length=1, max_length=200)]
    upload: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")] | None = None
    url: Place | None = None
    file: Place | None = None
    s3: Place | None = None
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")] | None = None
    bytes: Annotated[int, Meta(ge=1)] | None = None

    @property
    def kind(self) -> str:
        """Which of the four it is."""
        return next(kind for kind in ("upload", "url", "file", "s3") if getattr(self, kind) is not None)


class ReferenceDocument(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole document."""

    reference: Reference


_decoder = msgspec.json.Decoder(ReferenceDocument)


def parse(body: bytes) -> Reference:
    """Read the document ``{"reference": {…}}``.

    Raises:
        RequestError: ``MALFORMED`` or ``INVALID_INPUT``.
    """
    if len(body) > MOST_BYTES:
        raise invalid(f"A reference has at most {MOST_BYTES} bytes.", "reference")
    try:
        found = _decoder.decode(body).reference
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise invalid(f"{what}.", where.rstrip("`") or "reference") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise malformed("A reference is a JSON object with the member reference.", "body") from None
    if sum(place is not None for place in (found.upload, found.url, found.file, found.s3)) != 1:
        raise invalid("A reference has exactly one of upload, url, file and s3.", "reference")
    return found
