"""The short way of a predict request: a head that has been seen before, and a body of declared length.

A client with a kept connection sends the same head again and again. The first time it is parsed and checked like any
other; its bytes are remembered with what they say, and whoever sends exactly these bytes again says the same. Such a
request needs no HTTP parser, no ASGI scope, no task and no router: that is two thirds of what the front end does for a
small request. Everything else takes the ordinary way.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from time import perf_counter

from producer_api.auth import Client, Gate
from producer_api.inference.encoding import size_of
from producer_api.inference.errors import EVERYWHERE_LINES, body_of, headers_of
from producer_api.inference.exchange import PATH, AppContext, Exchange, Head, head_of
from producer_api.parsing.steps import LARGE_BYTES
from producer_api.queue.interface import Answer, GiveUp
from shared.names import NAME_PATTERN
from shared.wire.outcomes import CANCELLED, CLIENT_CLOSED, INTERNAL, SHUTTING_DOWN, RequestError

from .cors import Cors

log = logging.getLogger("headrace.http")

START = b"POST /v1/models/"
MOST_BYTES = 4096
"""A longer head is not remembered."""

MOST_HEADS = 1024
"""Heads remembered; the one used longest ago goes first."""

_TARGET = re.compile(rb"/v1/models/(%b)/predict(?:\?([^#]*))?\Z" % NAME_PATTERN.encode())
_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,9})\Z")

# These ask for more than this way can do, or differ from request to request and would push out all other heads.
_NOT_HERE = frozenset(
    {b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer", b"traceparent", b"idempotency-key"}
)

_OK = (
    b"HTTP/1.1 200 OK\r\n"
    + EVERYWHERE_LINES
    + b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b\r\n%b"
)

_AS_THEY_ARE = (b"image/", b"application/octet-stream")
"""Bodies of these types pass through undecoded."""

Respond = Callable[[bytes, bool], None]
"""Sends a whole response; the second argument asks to close the connection after it."""

UnderWay = tuple[Exchange, GiveUp]
"""A request that waits for its answer, and how to give it up."""


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head seen before, and the length of the body that follows it."""

    head: Head
    body_bytes: int


class Heads:
    """Remembers heads by their bytes, and with them who sent them: the API key is among the bytes.

    Args:
        gate: checks the key of a head before it is remembered; None when no key is asked for.
        cors: says what is added to answers for pages of other origins; None for nothing.
    """

    def __init__(
        self, max_body_bytes: int, most: int = MOST_HEADS, gate: Gate | None = None, cors: Cors | None = None
    ) -> None:
        self._max_body_bytes, self._most, self._gate, self._cors = max_body_bytes, most, gate, cors
        self._known: OrderedDict[bytes, KnownHead] = OrderedDict()

    def get(self, head: bytes) -> KnownHead | None:
        """Return what the bytes of a whole head say, if they have been seen before."""
        known = self._known.get(head)
        if known is not None:
            client = known.head.client
            if client is not None and client.revoked:  # the ordinary way asks anew
                del self._known[head]
                return None
            self._known.move_to_end(head)
        return known

    def learn(self, head: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Remember a head that the HTTP parser has just accepted, if it is of the common kind.

        Args:
            head: its bytes, the empty line included: a POST in HTTP/1.1.
            target: what stands between the method and the version.
            headers: names in lower case.
        """
        match = _TARGET.match(target)
        found = dict(headers)
        if match is None or len(head) > MOST_BYTES or len(found) != len(headers) or not _NOT_HERE.isdisjoint(found):
            return
        if found.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return
        length = found.get(b"content-length", b"")
        if not _LENGTH.match(length) or int(length) > self._max_body_bytes:
            return
        if int(length) > LARGE_BYTES and not found.get(b"content-type", b"").startswith(_AS_THEY_ARE):
            return  # decoding it takes a while, which the ordinary way shares with others
        client: Client | None = None
        if self._gate is not None:
            try:
                client = self._gate.check([found.get(b"authorization", b"")])
            except RequestError:
                return
        lines = b""
        if self._cors is not None:
            lines = b"".join(b"%b: %b\r\n" % header for header in self._cors.headers(found.get(b"origin")))
        self._known[head] = KnownHead(head_of(match[1].decode(), match[2] or b"", found, client, lines), int(length))
        if len(self._known) > self._most:
            self._known.popitem(last=False)


class Express:
    """Answers predict requests whose head is known and whose body is here.

    Attributes:
        heads: the heads seen before.
        arrivals: the bodies that are being received, on either way.
    """

    def __init__(self, context: AppContext, gate: Gate | None = None, cors: Cors | None = None) -> None:
        self._context, self.arrivals = context, context.arrivals
        self.heads = Heads(context.max_body_bytes, gate=gate, cors=cors)
        self._encoding: dict[Exchange, asyncio.Task[None]] = {}

    def begin(self, head: Head, body: bytes, respond: Respond) -> UnderWay | None:
        """Take a request; ``respond`` is called once, perhaps before this returns. Never raises.

        Returns:
            What :meth:`abandon` wants, None when it has ended.
        """
        exchange = Exchange(self._context, head)
        done = partial(self._done, exchange, respond)
        try:
            exchange.enter()
            decoded = exchange.decode(body)
            return exchange, self._context.queue.begin(
                exchange.state, decoded.request, id_is_generated=decoded.id_is_generated, done=done, lane=head.lane
            )
        except RequestError as error:
            done(error)
        except Exception:
            log.exception("A request for %s failed.", head.model, extra=exchange.about())
            done(RequestError(INTERNAL, "Something went wrong here; it has been logged."))
        return None

    def abandon(self, under_way: UnderWay) -> None:
        """The client is gone; ``respond`` is not called any more."""
        exchange, give_up = under_way
        if not exchange.closed:
            give_up()
            exchange.outcome = CLIENT_CLOSED
            exchange.close()
            if encoding := self._encoding.get(exchange):
                encoding.cancel()

    def _done(self, exchange: Exchange, respond: Respond, result: Answer | RequestError) -> None:
        if not isinstance(result, RequestError) and not result.is_short and self._is_large(exchange, result):
            task = asyncio.create_task(self._encode(exchange, respond, result))
            self._encoding[exchange] = task
            task.add_done_callback(lambda _: self._encoding.pop(exchange, None))
        else:
            self._end(exchange, respond, result)

    def _is_large(self, exchange: Exchange, answer: Answer) -> bool:
        try:
            return exchange.is_large(answer)
        except Exception:  # encoding it says what is wrong with it
            return False

    async def _encode(self, exchange: Exchange, respond: Respond, answer: Answer) -> None:
        """Answer with what takes long to encode; others are served meanwhile."""
        result: bytes | RequestError
        try:
            result = await self._context.turns.take(exchange.payload_in_steps(answer), size_of(answer.reply))
        except RequestError as error:
            result = error
        except Exception:
            log.exception("Answering a request for %s failed.", exchange.head.model, extra=exchange.about())
            result = RequestError(INTERNAL, "Something went wrong here; it has been logged.")
        if not exchange.closed:  # the client is still there
            self._end(exchange, respond, result)

    def _end(self, exchange: Exchange, respond: Respond, result: Answer | bytes | RequestError) -> None:
        try:
            response, status, close = self._response(exchange, result)
        except Exception:
            log.exception("Answering a request for %s failed.", exchange.head.model, extra=exchange.about())
            fault = RequestError(INTERNAL, "Something went wrong here; it has been logged.")
            response, status, close = self._refusal(exchange, fault)
        exchange.close()
        self._context.metrics.observe_request(PATH, status, perf_counter() - exchange.started_s)
        respond(response, close)

    def _response(self, exchange: Exchange, result: Answer | bytes | RequestError) -> tuple[bytes, int, bool]:
        if isinstance(result, RequestError):
            return self._refusal(exchange, result)
        try:
            payload = result if isinstance(result, bytes) else exchange.payload(result)
        except RequestError as error:
            return self._refusal(exchange, error)
        response = _OK % (
            exchange.media_type.encode(),
            len(payload),
            exchange.request_id.encode(),
            exchange.head.extra_lines,
            payload,
        )
        return response, 200, False

    def _refusal(self, exchange: Exchange, error: RequestError) -> tuple[bytes, int, bool]:
        exchange.failed(error)
        close = error.outcome is SHUTTING_DOWN
        body, status = body_of(error), error.outcome.status
        phrase = b"Cancelled" if error.outcome is CANCELLED else HTTPStatus(status).phrase.encode()
        headers = headers_of(error)
        if close:
            headers.append((b"connection", b"close"))
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        return (
            b"HTTP/1.1 %d %b\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\n%b%b\r\n%b"
            % (status, phrase, EVERYWHERE_LINES, len(body), lines, exchange.head.extra_lines, body),
            status,
            close,
        )
