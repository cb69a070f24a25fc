"""What OpenAI's batches say of themselves besides our own, and how their items and results are written. Pure.

https://platform.openai.com/docs/api-reference/batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from producer_api.bulk.dialect import NATIVE_ITEMS, Dialect
from producer_api.inference.codec import Codec, Head
from producer_api.inference.encoding import json_encoder
from producer_api.inference.openai import chat, completions, responses
from producer_api.inference.openai.embeddings import EMBEDDINGS
from producer_api.inference.openai.embeddings import PATH as EMBEDDINGS_PATH
from producer_api.inference.openai.errors import OpenAIError, detail_of, encoded
from producer_api.parsing.steps import at_once
from shared.wire.outcomes import EXPIRED, RequestError, invalid

CODECS: Final[Mapping[str, Codec]] = {
    EMBEDDINGS_PATH: EMBEDDINGS,
    chat.PATH: chat.CHAT,
    completions.PATH: completions.COMPLETIONS,
    responses.PATH: responses.RESPONSES,
}
"""The codec of each path that items of a batch can go to."""


class Terms(Struct, frozen=True, omit_defaults=True):
    """What the client said when it made the batch; a bulk batch's record has it in JSON."""

    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None = None


class Answered(Struct, frozen=True):
    """The answer to an item; ``body`` is what a request of its own would have got."""

    status_code: int
    request_id: str
    body: Raw


class LineError(Struct, frozen=True):
    """Why an item was not asked."""

    code: str
    message: str


class OutputLine(Struct, frozen=True):
    """A line of a batch's output or of its errors."""

    id: str
    custom_id: str
    response: Answered | None
    error: LineError | None


_terms: Final = msgspec.json.Decoder(Terms)
_label: Final = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])


class OpenAIItems(Dialect):
    """Items as requests to a path of OpenAI's API.

    Args:
        endpoint: the path.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint, self.codec = endpoint, CODECS[endpoint]

    def path(self, model: str) -> str:
        """See the interface."""
        return self._endpoint

    def check(self, head: Head, body: bytes, model: str) -> None:
        """See the interface: all items are for one model."""
        named = at_once(self.codec.model_name(head, body))
        if named != model:
            raise invalid(f"The items of this batch are for {model}, not {named}.", "body.model")

    def label(self, name: str, asked: Any) -> bytes:
        """See the interface."""
        return msgspec.msgpack.encode((name, asked))

    def read_label(self, label: bytes) -> tuple[str, Any]:
        """See the interface."""
        name, asked = _label.decode(label)
        if bytes(asked) == b"\xc0":
            return name, None
        return name, msgspec.msgpack.decode(asked, type=self.codec.asked_type)

    def answered(self, number: int, request_id: str, name: str, body: bytes) -> bytes:
        """See the interface."""
        return json_encoder.encode(OutputLine(_id(request_id), name, Answered(200, request_id, Raw(body)), None))

    def refused(self, number: int, name: str, error: RequestError) -> bytes:
        """See the interface."""
        request_id = error.request_id or ""
        if error.outcome is EXPIRED:
            line = OutputLine(_id(request_id), name, None, LineError("batch_expired", error.message))
        else:
            body = json_encoder.encode(OpenAIError(detail_of(error)))
            answered = Answered(encoded(error).status, request_id, Raw(body))
            line = OutputLine(_id(request_id), name, answered, None)
        return json_encoder.encode(line)


def _id(request_id: str) -> str:
    return f"batch_req_{request_id}"


ITEMS: Final = {endpoint: OpenAIItems(endpoint) for endpoint in CODECS}
"""The dialect of each of these paths."""


def dialect_of(terms: str) -> Dialect:
    """Return the dialect of a batch by its record's terms, which are empty for our own."""
    return ITEMS[_terms.decode(terms).endpoint] if terms else NATIVE_ITEMS


def terms_of(text: str) -> Terms | None:
    """Read the terms of a record; None where it is a batch of our own."""
    return _terms.decode(text) if text else None
