"""Media types: what Accept asks for, what Content-Type says, and which picture a body is."""

from __future__ import annotations

import re
from functools import lru_cache

from producer_api.store.reference import MEDIA_TYPE
from producer_api.streaming.plain_events import EVENTS_TYPE
from shared.wire import trace_context
from shared.wire.outcomes import NOT_ACCEPTABLE, UNSUPPORTED_MEDIA_TYPE, RequestError

JSON = "application/json"
MSGPACK = "application/msgpack"
X_MSGPACK = "application/x-msgpack"
RAW = "application/octet-stream"
IMAGES = ("image/jpeg", "image/png", "image/webp")

OPENMETRICS = "application/openmetrics-text"

OFFERED = (JSON, MSGPACK, X_MSGPACK)
"""What answers can be, best first."""

MAX_HEADER_BYTES = 4096
"""So much of a header is read: caches keep what strangers send."""

EXACTLY = 2
"""How exactly a range of Accept names a type: by its name, and not by ``application/*`` (1) or ``*/*`` (0)."""

_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\Z")


@lru_cache(maxsize=256)
def choose(accept: bytes) -> str:
    """Choose the media type of the answer by RFC 9110, section 12.5.1.

    The most specific range that covers a type gives its weight; the heaviest type wins, then the one that was named
    more exactly, then the order of ``OFFERED``. An empty header accepts anything.

    Args:
        accept: the header, of at most ``MAX_HEADER_BYTES``.

    A client that asks for server-sent events gets JSON in them.

    Raises:
        RequestError: ``NOT_ACCEPTABLE``.
    """
    ranges = _ranges(accept)
    if ranges is None or _streams(ranges):
        return JSON
    best, best_rank = None, (0.0, -1)
    for offer in OFFERED:
        rank = _rank(offer, ranges)
        if rank[0] > 0 and rank > best_rank:
            best, best_rank = offer, rank
    if best is None:
        raise RequestError(NOT_ACCEPTABLE, f"Answers can be {JSON} or {MSGPACK}; Accept allows neither.")
    return best


@lru_cache(maxsize=256)
def wants_events(accept: bytes) -> bool:
    """Say whether a client asks for its answer as server-sent events, by their name."""
    return _streams(_ranges(accept) or [])


def _streams(ranges: list[tuple[str, str, float]]) -> bool:
    return _rank(EVENTS_TYPE, ranges)[1] == EXACTLY and _rank(EVENTS_TYPE, ranges)[0] > 0


def wants_openmetrics(accept: bytes) -> bool:
    """Say whether a scraper accepts OpenMetrics and prefers it at least as much as plain text, the default."""
    ranges = _ranges(accept) or []
    weight, level = _rank(OPENMETRICS, ranges)
    return level == EXACTLY and 0 < weight >= _rank("text/plain", ranges)[0]


def _ranges(accept: bytes) -> list[tuple[str, str, float]] | None:
    text = accept[:MAX_HEADER_BYTES].decode("latin-1")
    if not text.strip():
        return None
    return [parsed for part in text.split(",") if (parsed := _range(part)) is not None]


def _range(part: str) -> tuple[str, str, float] | None:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    kind, slash, subtype = name.lower().partition("/")
    if not (kind and slash and subtype):
        return None
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            value = value.strip()
            if _QUALITY.match(value) is None:
                return None
            quality = float(value)
    return kind, subtype, quality


def _rank(offer: str, ranges: list[tuple[str, str, float]]) -> tuple[float, int]:
    kind, _, subtype = offer.partition("/")
    quality, specificity = 0.0, -1
    for want_kind, want_subtype, want_quality in ranges:
        if (want_kind, want_subtype) == (kind, subtype):
            level = EXACTLY
        elif (want_kind, want_subtype) == (kind, "*"):
            level = 1
        elif (want_kind, want_subtype) == ("*", "*"):
            level = 0
        else:
            continue
        if level > specificity or (level == specificity and want_quality > quality):
            quality, specificity = want_quality, level
    return quality, specificity


@lru_cache(maxsize=256)
def body_type(content_type: bytes, taken: tuple[str, ...]) -> str:
    """Return the media type of a body in lower case without its parameters.

    Args:
        content_type: the header, of at most ``MAX_HEADER_BYTES``; empty when there is none.
        taken: content types of the model's card; JSON and msgpack are always taken.

    Raises:
        RequestError: ``UNSUPPORTED_MEDIA_TYPE``.
    """
    name = media_type(content_type)
    if name in (JSON, MSGPACK, MEDIA_TYPE) or name in taken:
        return name
    said = f"not {name[:80]}" if name else "and Content-Type has to say which"
    raise RequestError(
        UNSUPPORTED_MEDIA_TYPE, f"The model takes {', '.join((*taken, JSON, MSGPACK))}, {said}.", field="Content-Type"
    )


def media_type(content_type: bytes) -> str:
    """Return the media type of a body as it is called here, without its parameters, whoever takes it."""
    name = content_type.decode("latin-1").partition(";")[0].strip().lower()
    return MSGPACK if name == X_MSGPACK else name


def sniff(body: bytes) -> str | None:
    """Tell JPEG, PNG and WebP by their first bytes; None for anything else."""
    if body.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if body.startswith(b"RIFF") and body[8:12] == b"WEBP":
        return "image/webp"
    return None


def traceparent(header: bytes | None) -> str | None:
    """Return a W3C traceparent header that is well formed, else None."""
    text = None if header is None else header.decode("latin-1")
    return text if trace_context.parts(text) is not None else None
