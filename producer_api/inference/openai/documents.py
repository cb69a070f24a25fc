"""Requests in JSON that name their model: found out which, and decoded, with pauses where they are long. Pure."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from producer_api.inference.codec import Codec, Head
from producer_api.inference.negotiation import JSON
from producer_api.parsing.json_cuts import Cuts, cut
from producer_api.parsing.steps import LARGE_BYTES, Steps
from producer_api.parsing.validation import from_validation
from shared.names import is_name
from shared.state.cards import Card
from shared.wire.outcomes import UNKNOWN_MODEL, UNSUPPORTED_MEDIA_TYPE, RequestError, invalid, malformed

from . import errors

T = TypeVar("T")

_UNKNOWN: Final = re.compile(r"contains unknown field '(.*)'\.\Z", re.DOTALL)
_MISSING: Final = re.compile(r"missing required field '(\w+)'\.\Z")


class _Named(Struct, frozen=True):
    """The member that every request of these dialects has."""

    model: str


_named: Final = msgspec.json.Decoder(_Named)


class NamedModelCodec(Codec):
    """What codecs have in common whose requests are JSON that names the model."""

    def answer_type(self, head: Head) -> str:
        """See the interface."""
        return JSON

    def body_kind(self, head: Head, card: Card) -> str:
        """See the interface."""
        if (head.content_encoding or b"identity").strip().lower() != b"identity":
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, "Send the body uncompressed.", field="Content-Encoding")
        return JSON

    def model_name(self, head: Head, body: bytes) -> Steps[str]:
        """See the interface."""
        short = yield from shortened(body)
        return checked_name(decoded(short.rest, _named).model)

    def error(self, error: RequestError) -> Any:
        """See the interface."""
        return errors.encoded(error)


def checked_name(name: str) -> str:
    """Return the name of a model.

    Raises:
        RequestError: ``UNKNOWN_MODEL``: no model has such a name.
    """
    if not is_name(name):
        raise RequestError(UNKNOWN_MODEL, f"There is no model {name[:80]!r}.", field="model")
    return name


def shortened(body: bytes) -> Steps[Cuts]:
    """Cut long lists and texts out of a body that is long.

    Raises:
        RequestError: ``MALFORMED``, ``INVALID_INPUT``.
    """
    if not body:
        raise invalid("The body is empty.", "body")
    return (yield from cut(body)) if len(body) > LARGE_BYTES else Cuts(body, {})


def decoded(text: bytes, decoder: msgspec.json.Decoder[T], under: str = "") -> T:
    """Decode JSON; what is wrong is said in one sentence that names the member.

    Args:
        under: the member that ``text`` is the value of.

    Raises:
        RequestError: ``MALFORMED``, ``INVALID_INPUT``.
    """
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise _named_member(from_validation(error, under)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise malformed("The body is not valid JSON.", "body") from None


def _named_member(error: RequestError) -> RequestError:
    """Have an error about a member that is unknown or missing name it."""
    place = "" if error.field in (None, "body") else f"{error.field}."
    if found := _UNKNOWN.search(error.message):
        name = found[1][:80]
        return invalid(f"The parameter {name!r} is not known here.", f"{place}{name}")
    if found := _MISSING.search(error.message):
        return invalid(f"The parameter {found[1]!r} is missing.", f"{place}{found[1]}")
    return error
