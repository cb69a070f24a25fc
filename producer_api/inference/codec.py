"""What a dialect of HTTP is: from a request to a message for the queue, and from a reply to a response.

A dialect is one implementation of :class:`Codec` and one line in the table of ``dialects.py``. Neither what a request
goes through (``exchanges/``) nor how it comes (``http``, ``routes``) knows which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from producer_api.auth import Client
from producer_api.caching.freshness import ANY, Freshness, freshness_of
from producer_api.lane_choice import LANE, lane_of
from producer_api.later.preferences import KEEP, PREFER, WEBHOOK, Later, later_of
from producer_api.parsing.steps import Steps
from producer_api.store.reference import Reference
from producer_api.streaming.events import EventStream, Streaming
from shared.state.cards import Card
from shared.wire.messages import Reply, Request
from shared.wire.outcomes import RequestError, malformed

from .explained import HEADER as EXPLAIN
from .explained import wish_of
from .negotiation import MAX_HEADER_BYTES, traceparent, wants_events

Headers = list[tuple[bytes, bytes]]


class Head(Struct, frozen=True):
    """What the head of a request says.

    Attributes:
        route: template of the path, such as ``/v1/models/{model}/predict``.
        codec: that of the route.
        model: name in the path; empty where the body names the model.
        path: all that the path names, by the template's names.
        query: the query string as it came.
        headers: all of them; names are in lower case.
        accept, content_type: the headers, cut at ``MAX_HEADER_BYTES``; empty when there are none.
        content_encoding: the header, None when there is none.
        traceparent: W3C trace context if the header is valid.
        idempotency_key: the header as it came, None when there is none.
        client: the holder of the API key, None if no key is required.
        lane: where its requests go.
        version: of the model, where the path names one; empty for any.
        extra_lines: header lines that every answer to it carries, as they are sent.
        later: what it asks for if it is to be answered later; None if at once.
        wants_events: Accept names server-sent events.
        explain: the answer is to say where its time went.
        freshness: which answers of a cache it takes.
    """

    route: str
    codec: Codec
    model: str
    path: Mapping[str, str]
    query: bytes
    headers: Mapping[bytes, bytes]
    accept: bytes
    content_type: bytes
    content_encoding: bytes | None
    traceparent: str | None
    idempotency_key: bytes | None
    client: Client | None
    lane: str
    version: str
    extra_lines: bytes
    later: Later | None = None
    wants_events: bool = False
    freshness: Freshness = ANY
    explain: bool = False


def head_of(
    route: str,
    codec: Codec,
    path: Mapping[str, str],
    query: bytes,
    headers: Mapping[bytes, bytes],
    client: Client | None = None,
    extra_lines: bytes = b"",
) -> Head:
    """Collect what matters from the headers; names are in lower case.

    Raises:
        RequestError: ``MALFORMED``: the headers for an answer that comes later, for a lane, or for an explanation make
            no sense; ``UNKNOWN_LANE``: the key may not choose the lane.
    """
    trace, prefer = headers.get(b"traceparent"), headers.get(PREFER)
    later = None if prefer is None and KEEP not in headers else later_of(prefer or b"", headers)
    if later is None and WEBHOOK in headers:
        raise malformed("Headrace-Webhook is for answers that come later: send Prefer: respond-async, too.", "Prefer")
    accept = headers.get(b"accept", b"")[:MAX_HEADER_BYTES]
    return Head(
        route,
        codec,
        path.get("model", ""),
        path,
        query,
        headers,
        accept,
        headers.get(b"content-type", b"")[:MAX_HEADER_BYTES],
        headers.get(b"content-encoding"),
        None if trace is None else traceparent(trace),
        headers.get(b"idempotency-key"),
        client,
        lane_of(headers.get(LANE), client),
        path.get("version", ""),
        extra_lines,
        later,
        wants_events(accept),
        freshness_of(headers.get(b"cache-control")),
        wish_of(headers.get(EXPLAIN)),
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a request.

    Attributes:
        default_timeout_ms, max_timeout_ms: how long its answer is worth waiting for if it does not say, and the most it
            may say.
        max_body_bytes: of a body once it is no longer compressed.
    """

    default_timeout_ms: int
    max_timeout_ms: int
    max_body_bytes: int


class Decoded(Struct, frozen=True):
    """A request ready for the queue.

    Attributes:
        id_is_generated: the client did not name it.
        fingerprint: of all that was sent, when an idempotency key came with it; else empty.
        asked: what the codec wants to know again when it encodes the answer, such as the outputs that were asked for.
        reference: where the body is that the request still lacks; None where it is complete.
        run_ms: how long it may run once it has begun, which ``request.ttl_ms`` does not cover then; 0 unless its answer
            is generated bit by bit.
        streaming: how its answer is sent as it is made; None where it is sent whole.
        pieces: more requests, whose replies go behind that of the first; see ``several.py``.
        sizes: rows of all, the first included.
    """

    request: Request
    id_is_generated: bool
    fingerprint: str = ""
    asked: Any = None
    reference: Reference | None = None
    run_ms: int = 0
    streaming: Streaming | None = None
    pieces: tuple[Request, ...] = ()
    sizes: tuple[int, ...] = ()


class Response(Struct):
    """A whole response, before a transport makes bytes of it.

    Attributes:
        media_type: of the body.
        headers: besides those that say type and length of the body, the request's id and the end of the connection.
        request_id: None where there is no request.
        is_last: the connection ends after it.
        events: the body, as it is made, instead of ``body``.
    """

    status: int
    media_type: str
    body: bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    request_id: str | None = None
    is_last: bool = False
    events: EventStream | None = None


class Codec(Protocol):
    """One dialect. No I/O, and no state: one object serves all requests.

    Attributes:
        asked_type: of ``Decoded.asked``, which msgpack must be able to hold, since an answer may be fetched later from
            another front end; None where nothing is asked.
        is_counted: its replies count in the statistics of the Open Inference Protocol.
        methods: those of HTTP with which it is asked.
        is_streamed: its requests may ask for answers as they are made; these do not take the express way.

    Raises:
        RequestError: from everything but ``error``: the request is refused.
    """

    asked_type: Any = None
    is_counted: ClassVar[bool] = False
    is_streamed: ClassVar[bool] = False
    methods: ClassVar[tuple[str, ...]] = ("POST",)

    def answer_type(self, head: Head) -> str:
        """Return the media type that the answer will have; asked before anything else."""

    def body_kind(self, head: Head, card: Card) -> str:
        """Return the kind of the body for :meth:`decode`; asked as soon as the model is known."""

    def model_name(self, head: Head, body: bytes) -> Steps[str]:
        """Return the name of the model where the path does not say it, with pauses where the body is large.

        Not asked of a codec whose paths all say it.
        """
        yield
        raise AssertionError("the path names the model")

    def timeout_ms(self, head: Head, body: bytes, limits: Limits) -> int:
        """Return how long the client waits for its answer, told without the model's card, which nobody knows yet.

        Once the card is known the request is decoded, and what it says then holds. Where telling takes long, it is the
        most that it may be.
        """
        return limits.default_timeout_ms

    def decode(
        self, kind: str, body: bytes, head: Head, card: Card, limits: Limits, generated_id: str
    ) -> Decoded | Steps[Decoded]:
        """Decode and check one request; returns the steps that do it where that takes long.

        Args:
            body: all of it; it is passed on without a copy when it is raw.
            generated_id: id of the request unless the client names it.
        """

    def encode(
        self, reply: Reply, media_type: str, total_s: float, asked: Any, *, is_short: bool
    ) -> Response | Steps[Response]:
        """Encode a reply without a fault; returns the steps that do it where that takes long.

        Args:
            media_type: as :meth:`answer_type` has said.
            total_s: seconds the request has spent in this process, waiting included.
            asked: as :meth:`decode` has put it into ``Decoded``.
            is_short: the reply is known to be so short that it takes no time worth mentioning.
        """

    def rows(self, asked: Any) -> int:
        """Return the rows of a request, for the statistics; asked of a codec that is counted.

        Args:
            asked: as :meth:`decode` has put it into ``Decoded``.
        """
        return 1

    def error(self, error: RequestError) -> Response:
        """Encode an error. Headers that say when to come again and such are not its business."""
