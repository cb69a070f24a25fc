"""JSON and msgpack of predict requests, as far as their schemas say; tensors and pictures come later."""

from __future__ import annotations

import msgspec

from producer_api.parsing import validation
from producer_api.parsing.schemas import PredictMsgpack, PredictRequest
from producer_api.parsing.validation import from_validation, reason
from shared.wire.messages import WireError, unpack
from shared.wire.outcomes import malformed
from shared.wire.packing import TOO_MANY_VALUES

_json_decoder = msgspec.json.Decoder(PredictRequest)
_msgpack_decoder = msgspec.msgpack.Decoder(PredictMsgpack)


def from_json(body: bytes) -> PredictRequest:
    """Decode a document in JSON.

    Raises:
        RequestError: ``MALFORMED`` or ``INVALID_INPUT``.
    """
    return validation.from_json(_json_decoder, body)


def from_msgpack(body: bytes) -> PredictMsgpack:
    """Decode a document in msgpack.

    Raises:
        RequestError: ``MALFORMED`` or ``INVALID_INPUT``.
    """
    try:
        try:
            return _msgpack_decoder.decode(body)
        except msgspec.ValidationError as error:
            _check_msgpack(body)
            raise from_validation(error) from None
    except RecursionError:
        raise malformed("The message is nested too deeply.", "body") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise malformed(f"The message is not valid msgpack: {reason(error)}.", "body") from None


def _check_msgpack(body: bytes) -> None:
    """Look for the first thing that no message may hold, as in JSON. Of many values none is made.

    Raises:
        msgspec.DecodeError: it is no msgpack.
        RequestError: ``MALFORMED``: it holds what the format does not have.
    """
    try:
        unpack(body)
    except WireError as error:
        if str(error) != TOO_MANY_VALUES:
            raise malformed(str(error), "body") from None
        _check_keys(body)


def _check_keys(body: bytes) -> None:
    try:
        _msgpack_decoder.decode(body)
    except msgspec.ValidationError as error:
        if "`key` in" in str(error):
            raise malformed("The message is not valid msgpack: a number is not allowed for map key.", "body") from None
        if "got `ext`" in str(error):
            raise malformed("Extension types are not part of the format.", "body") from None
