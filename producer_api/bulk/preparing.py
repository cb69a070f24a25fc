"""From an item of an upload to the request that goes into the lane, or the reply that says why it cannot. No I/O."""

from __future__ import annotations

import msgspec

from producer_api.inference.codec import Decoded, Head, Limits, head_of
from producer_api.inference.context import AppContext
from producer_api.inference.negotiation import IMAGES, MAX_HEADER_BYTES, sniff
from shared.state.cards import Card
from shared.wire.messages import Fault, ModelTag, Reply, Timing, encode_reply, encode_request
from shared.wire.outcomes import RequestError, invalid

from .dialect import Dialect
from .parts import Record
from .readers.items import Item, name_of
from .run import request_id

TTL_MS = 3_600_000
"""How long an item may wait in the lane; one that has waited longer goes into it again."""

GAPS_TTL_MS = 86_400_000
"""The same in a batch lane, where it may wait for gaps."""


class Preparing:
    """Makes records of a batch's items.

    Args:
        query: options of all items whose body is no document, as in the query of a request.
        dialect: that its items are written in.
        ttl_ms: how long an item may wait in the lane.
    """

    def __init__(
        self,
        context: AppContext,
        card: Card,
        model: str,
        batch_id: str,
        query: bytes,
        dialect: Dialect,
        ttl_ms: int = TTL_MS,
    ) -> None:
        self._context, self._card, self._model, self._batch_id, self._query = context, card, model, batch_id, query
        self._limits = Limits(ttl_ms, ttl_ms, context.max_body_bytes)
        self._tag = ModelTag(card.name, card.version, card.precision)
        self._dialect, self._url = dialect, dialect.path(model)
        self._takes_pictures = any(image in card.content_types for image in IMAGES)
        self._heads: dict[bytes, tuple[Head, str]] = {}

    async def record(self, index: int, item: Item) -> Record:
        """Return the record of an item, which holds a reply if the item cannot be run."""
        name, wire_id = item.name, request_id(self._batch_id, index)
        try:
            if item.error is not None:
                raise item.error
            decoded = await self._decoded(item, wire_id)
        except RequestError as error:
            fault = Fault(error.outcome.code, error.message, error.field)
            reply = Reply(wire_id, self._tag, Timing(), fault=fault)
            return Record(index, self._dialect.label(name, None), encode_reply(reply), has_error=True)
        request = decoded.request
        if not decoded.id_is_generated:  # the client's own name of it; the batch has its own for the lane
            name = name or name_of(request.id)
            request = msgspec.structs.replace(request, id=wire_id)
        label = self._dialect.label(name, decoded.asked)
        return Record(index, label, encode_request(request, self._batch_id))

    async def _decoded(self, item: Item, wire_id: str) -> Decoded:
        if item.url not in (None, self._url):
            raise invalid(f"The items of this batch go to {self._url}.", "url")
        if not item.body:
            raise invalid("The item is empty.", "body")
        head, kind = self._head(item)
        self._dialect.check(head, item.body, self._model)
        decoded = self._dialect.codec.decode(kind, item.body, head, self._card, self._limits, wire_id)
        if not isinstance(decoded, Decoded):
            decoded = await self._context.step_runner.run(decoded, len(item.body))
        if decoded.pieces:
            raise invalid(f"A line has at most {self._card.batch.max_batch} texts, and no very long list.", "input")
        if decoded.streaming is not None:
            raise invalid("The answers of a batch are not streamed.", "stream")
        return decoded

    def _head(self, item: Item) -> tuple[Head, str]:
        content_type = item.content_type[:MAX_HEADER_BYTES]
        is_untold = not content_type or content_type.lower().startswith(b"application/octet-stream")
        if is_untold and self._takes_pictures:  # files come without a type of their own
            content_type = (sniff(item.body) or "").encode() or content_type
            if not content_type:
                raise invalid("This is not a JPEG, PNG or WebP file.", "body")
        found = self._heads.get(content_type)
        if found is None:
            codec = self._dialect.codec
            head = head_of(self._url, codec, {"model": self._model}, b"", {b"content-type": content_type})
            kind = codec.body_kind(head, self._card)
            if kind not in ("application/json", "application/msgpack"):
                head = msgspec.structs.replace(head, query=self._query)
            found = (head, kind)
            if len(self._heads) < 64:
                self._heads[content_type] = found
        return found
