"""The express way of a predict request: a head that was seen before, and a body of declared length.

A client with a kept connection sends the same head again and again. The first time it is parsed and checked like any
other; its bytes are remembered with their meaning, and exactly the same bytes mean the same again. Such a
request needs no HTTP parser, no ASGI scope, no task and no router: that is two thirds of what the front end does for a
small request. Everything else takes the ordinary way.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from producer_api.auth import Client, KeyCheck
from producer_api.inference.codec import Head, head_of
from producer_api.inference.context import AppContext
from producer_api.inference.dialects import Dialects, find
from shared.wire.outcomes import RequestError

from .cors import Cors

START = b"POST /"
MOST_BYTES = 4096
"""A longer head is not remembered."""

MOST_HEADS = 1024
"""Heads remembered that have come again, and as many that came once; of each the one used longest ago goes first."""

_LENGTH = re.compile(rb"(?:0|[1-9][0-9]{0,9})\Z")

# These ask for more than this way can do, or differ from request to request and would push out all other heads.
_NOT_HERE = frozenset(
    {b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer", b"traceparent", b"idempotency-key"}
)


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head seen before, and the length of the body that follows it."""

    head: Head
    body_bytes: int


class Heads:
    """Remembers heads by their bytes, and with them the client: the API key is among the bytes.

    Heads that differ from request to request, by an id or a length, push out only others that have come once.

    Args:
        dialects: the codec of each path that is answered this way.
        key_check: checks the key of a head before it is remembered; None if no key is required.
        cors: says what is added to answers for pages of other origins; None for nothing.
    """

    def __init__(
        self,
        dialects: Dialects,
        max_body_bytes: int,
        most: int = MOST_HEADS,
        key_check: KeyCheck | None = None,
        cors: Cors | None = None,
    ) -> None:
        self._dialects, self._max_body_bytes, self._most = dialects, max_body_bytes, most
        self._key_check, self._cors = key_check, cors
        self._known: OrderedDict[bytes, KnownHead] = OrderedDict()
        self._met_once: OrderedDict[bytes, KnownHead] = OrderedDict()

    def get(self, head: bytes) -> KnownHead | None:
        """Return what the bytes of a whole head say, if they have been seen before."""
        known = self._known.get(head) or self._met_again(head)
        if known is not None:
            client = known.head.client
            if client is not None and client.revoked:  # the ordinary way checks again
                del self._known[head]
                return None
            self._known.move_to_end(head)
        return known

    def _met_again(self, head: bytes) -> KnownHead | None:
        known = self._met_once.pop(head, None)
        if known is not None:
            self._known[head] = known
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return known

    def learn(self, head: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Remember a head that the HTTP parser has just accepted, if it is of the common kind.

        Args:
            head: its bytes, the empty line included: a POST in HTTP/1.1.
            target: what stands between the method and the version.
            headers: names in lower case.
        """
        found = dict(headers)
        if len(head) > MOST_BYTES or len(found) != len(headers) or not _NOT_HERE.isdisjoint(found):
            return
        if found.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return
        length = found.get(b"content-length", b"")
        if not _LENGTH.match(length) or int(length) > self._max_body_bytes:
            return
        path, _, query = target.partition(b"?")
        dialect = find(path.decode("latin-1"), self._dialects)
        if dialect is None or dialect[1].is_streamed or b"#" in query:
            return
        client: Client | None = None
        if self._key_check is not None:
            try:
                client = self._key_check.check([found.get(b"authorization", b"")])
            except RequestError:
                return
        lines = b""
        if self._cors is not None:
            lines = b"".join(b"%b: %b\r\n" % header for header in self._cors.headers(found.get(b"origin")))
        try:
            known = head_of(*dialect, query, found, client, lines)
        except RequestError:  # the ordinary way says what is wrong
            return
        if known.wants_events:
            return
        self._met_once[head] = KnownHead(known, int(length))
        if len(self._met_once) > self._most:
            self._met_once.popitem(last=False)


class Express:
    """What the connections of an application need for the express way.

    Attributes:
        context: what exchanges share.
        heads: the heads seen before.
    """

    def __init__(
        self, context: AppContext, dialects: Dialects, key_check: KeyCheck | None = None, cors: Cors | None = None
    ) -> None:
        self.context, self.heads = context, Heads(dialects, context.max_body_bytes, key_check=key_check, cors=cors)
