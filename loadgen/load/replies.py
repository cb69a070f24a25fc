"""Whether an answer is one: pure checks on bytes, cheap enough for every request."""

from __future__ import annotations

import random
from typing import Final

import msgspec

from loadgen.scenario import JSON, MSGPACK

ALWAYS_PARSED_BYTES: Final = 65536
SAMPLE_ONE_IN: Final = 16


class Results(msgspec.Struct):
    """What an answer holds, at least one of the two."""

    # Members are checked to be JSON and left as bytes: that costs half a microsecond for a classifier's answer.
    predictions: list[msgspec.Raw] | None = None
    outputs: list[msgspec.Raw] | None = None


class ErrorCode(msgspec.Struct):
    """What kind of error an answer tells of."""

    code: str | None = None


class _Refusal(msgspec.Struct):
    error: ErrorCode | None = None


class ReplyCheck:
    """Checks answers of status 200: JSON objects with at least one entry in `predictions` or `outputs`.

    With another media type they are msgpack. Bodies of up to 64 KiB are all parsed. Of larger ones a seeded sample of
    one in 16 is, since parsing megabytes would slow the generator; the others must at least look like a JSON object at
    both ends.
    """

    __slots__ = ("_decode", "_is_json", "_random", "parsed")

    def __init__(self, seed: int, media_type: str = JSON) -> None:
        decoder = msgspec.msgpack.Decoder(Results) if media_type == MSGPACK else msgspec.json.Decoder(Results)
        self._decode = decoder.decode
        self._is_json = media_type != MSGPACK
        self._random = random.Random(f"replies:{seed}").random
        self.parsed = 0

    def is_answer(self, body: bytes, must_parse: bool = False) -> bool:
        """Whether this body of a 200 is an inference's result."""
        large = len(body) > ALWAYS_PARSED_BYTES
        if large and not must_parse and self._random() * SAMPLE_ONE_IN >= 1.0:
            return not self._is_json or (body[:1] == b"{" and body[-64:].rstrip()[-1:] == b"}")
        self.parsed += 1
        try:
            answer = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        return bool(answer.predictions or answer.outputs)


def error_code(body: bytes) -> str | None:
    """Return the code in an error answer's body, or None when it has none."""
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        try:
            refusal = msgspec.msgpack.decode(body, type=_Refusal)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
    code = refusal.error.code if refusal.error else None
    return code[:100] if code else None
