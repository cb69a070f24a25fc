"""One predict request, whatever brought it here: let in, decoded, answered and counted. No I/O.

Two transports use it: ``routes/predict.py``, an ASGI endpoint, and ``express.py``, which answers the common case
without ASGI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from producer_api.auth import Client
from producer_api.load.body_budget import Arrival, Arrivals
from producer_api.load.in_flight import InFlight
from producer_api.metrics import UNKNOWN, ApiMetrics
from producer_api.parsing.steps import Steps, Turns, at_once
from producer_api.queue.admission import admit, check_lane
from producer_api.queue.interface import Answer, ModelState, Queue
from shared.keys import DEFAULT_LANE
from shared.process.logs import about
from shared.settings import Settings
from shared.state.cards import Card
from shared.wire.outcomes import INTERNAL, OK, UNSUPPORTED_MEDIA_TYPE, RequestError, malformed

from .decoding import Decoded, Limits, decode_in_steps
from .encoding import encode_reply, encode_reply_in_steps, is_large
from .errors import from_fault
from .negotiation import body_type, choose, traceparent
from .request_ids import RequestIds, fingerprint_in_steps, id_of_key

PATH = "/v1/models/{model}/predict"


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a predict request says.

    Attributes:
        query: the query string as it came.
        accept: the header, empty when there is none.
        content_type, content_encoding: the headers, None when there are none.
        traceparent: W3C trace context if the header is valid.
        idempotency_key: the header as it came, None when there is none.
        client: who holds the API key, None where none is asked for.
        lane: where its requests go.
        extra_lines: header lines that every answer to it carries, as they are sent.
    """

    model: str
    query: bytes
    accept: bytes
    content_type: bytes | None
    content_encoding: bytes | None
    traceparent: str | None
    idempotency_key: bytes | None = None
    client: Client | None = None
    lane: str = DEFAULT_LANE
    extra_lines: bytes = b""


def head_of(
    model: str, query: bytes, headers: Mapping[bytes, bytes], client: Client | None = None, extra_lines: bytes = b""
) -> Head:
    """Collect what matters from the headers; names are in lower case."""
    trace = headers.get(b"traceparent")
    return Head(
        model,
        query,
        headers.get(b"accept", b""),
        headers.get(b"content-type"),
        headers.get(b"content-encoding"),
        None if trace is None else traceparent(trace),
        headers.get(b"idempotency-key"),
        client,
        DEFAULT_LANE if client is None else client.key.lane,
        extra_lines,
    )


class AppContext:
    """What all exchanges of an application share."""

    def __init__(
        self, settings: Settings, queue: Queue, metrics: ApiMetrics, arrivals: Arrivals, in_flight: InFlight
    ) -> None:
        self.queue, self.metrics, self.arrivals, self.in_flight = queue, metrics, arrivals, in_flight
        self.ids, self.turns = RequestIds(), Turns(settings.sending_limit_bytes)
        self.limits = Limits(settings.default_timeout_ms, settings.max_timeout_ms)
        self.max_body_bytes = settings.max_body_bytes


class Exchange:
    """One request and its answer. Every one that is made must be closed.

    Attributes:
        request_id: made up, or the client's own once the body has been read.
        media_type: of the answer.
        state: the model that takes it, once it is admitted.
        outcome: how it ended, for the metrics.
        closed: it has been counted.
    """

    __slots__ = (
        "_card",
        "_catalogue",
        "_client",
        "_context",
        "_has_place",
        "_kind",
        "closed",
        "head",
        "media_type",
        "outcome",
        "request_id",
        "started_s",
        "state",
    )

    _card: Card
    _kind: str
    state: ModelState
    media_type: str

    def __init__(self, context: AppContext, head: Head) -> None:
        self.started_s = perf_counter()
        self._context, self.head = context, head
        self._catalogue = context.queue.catalogue()
        self.request_id = context.ids.next()
        self.outcome = INTERNAL
        self._client: Client | None = None
        self._has_place = self.closed = False

    def enter(self) -> None:
        """Check all that can be checked before the body is there.

        Raises:
            RequestError: the request is refused.
        """
        head = self.head
        if head.client is not None:
            head.client.enter()
            self._client = head.client
        self.media_type = choose(head.accept)
        self._admit()

    def _admit(self) -> None:
        head = self.head
        state = admit(self._catalogue, head.model, self.request_id)
        self._context.in_flight.enter()
        self._has_place = True
        if head.client is not None:
            check_lane(state, head.lane)
        card = state.card
        assert card is not None  # else it would not be open
        encoding = head.content_encoding
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, "Bodies are taken uncompressed only.", field="Content-Encoding")
        self._kind = body_type(head.content_type, card.content_types)
        self._card, self.state = card, state

    @contextmanager
    def arriving(self) -> Iterator[Arrival]:
        """Receive the body in pieces. Meanwhile the request has no place; see :meth:`enter_again`."""
        context = self._context
        arrival = context.arrivals.begin()
        context.in_flight.leave()
        self._has_place = False
        try:
            yield arrival
        finally:
            arrival.end()

    def enter_again(self) -> None:
        """Admit it anew if its body came in pieces: until now it had no place, and the model may be gone.

        Raises:
            RequestError: the request is refused.
        """
        if not self._has_place:
            self._catalogue = self._context.queue.catalogue()
            self._admit()

    def decode(self, body: bytes) -> Decoded:
        """Make the request for the queue at once, see :meth:`decode_in_steps`."""
        return at_once(self.decode_in_steps(body))

    def decode_in_steps(self, body: bytes) -> Steps[Decoded]:
        """Make the request for the queue.

        Raises:
            RequestError: the body does not fit.
        """
        self._context.metrics.received.observe(len(body))
        head = self.head
        key = head.idempotency_key
        if key is not None:
            self.request_id = id_of_key(key, b"" if head.client is None else head.client.key.digest)
        limits = self._context.limits
        decoded = yield from decode_in_steps(
            self._kind, body, head.query, self._card, limits, self.request_id, head.traceparent
        )
        self.request_id = decoded.request.id
        if key is None:
            return decoded
        if not decoded.id_is_generated:
            raise malformed("A request has an id or an Idempotency-Key, not both.", "Idempotency-Key")
        return Decoded(decoded.request, False, (yield from fingerprint_in_steps(self._kind, head.query, body)))

    def is_large(self, answer: Answer) -> bool:
        """Say whether an answer is to be encoded in steps."""
        return is_large(answer.reply, self.media_type)

    def payload(self, answer: Answer) -> bytes:
        """Encode the answer at once, see :meth:`payload_in_steps`."""
        reply = answer.reply
        if reply.fault is not None:
            raise from_fault(reply.fault, self.request_id)
        return self._encoded(encode_reply(reply, perf_counter() - self.started_s, self.media_type))

    def payload_in_steps(self, answer: Answer) -> Steps[bytes]:
        """Encode the answer.

        Raises:
            RequestError: the consumer refused the request.
        """
        reply = answer.reply
        if reply.fault is not None:
            raise from_fault(reply.fault, self.request_id)
        return self._encoded(
            (yield from encode_reply_in_steps(reply, perf_counter() - self.started_s, self.media_type))
        )

    def _encoded(self, payload: bytes) -> bytes:
        self.outcome = OK
        self._context.metrics.sent.observe(len(payload))
        return payload

    def failed(self, error: RequestError) -> RequestError:
        """Note that it ended with ``error``, and give that the request's id."""
        self.outcome = error.outcome
        if error.request_id is None:
            error.request_id = self.request_id
        return error

    def about(self) -> dict[str, str]:
        """Return what a log line about it carries besides its words."""
        return about(self.request_id, self.head.traceparent)

    def close(self) -> None:
        """Count it."""
        self.closed = True
        model = self.head.model
        if self._has_place:
            self._context.in_flight.leave()
        if self._client is not None:
            self._client.leave()
        self._context.metrics.requests.counts[
            model if model in self._catalogue.models else UNKNOWN, self.outcome.code
        ] += 1
