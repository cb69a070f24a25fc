"""The events of our own dialect: parts of a text, then the whole answer as it would be without a stream. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.wire.frames import Frame
from shared.wire.messages import Reply
from shared.wire.outcomes import RequestError

EVENTS_TYPE = "text/event-stream"

_text = msgspec.json.Encoder()


class PlainWriter:
    """Encodes one answer; see :class:`producer_api.streaming.events.EventWriter`.

    Args:
        encode_reply, encode_error: return a whole answer, or an error, in JSON.
    """

    def __init__(self, encode_reply: Callable[[Reply], bytes], encode_error: Callable[[RequestError], bytes]) -> None:
        self._encode_reply, self._encode_error = encode_reply, encode_error

    def begin(self) -> bytes:
        """See the interface."""
        return b""

    def part(self, frame: Frame) -> bytes:
        """See the interface."""
        return b'id: %d\ndata: {"text":%b}\n\n' % (frame.seq, _text.encode(frame.text)) if frame.text else b""

    def end(self, reply: Reply) -> bytes:
        """See the interface: the whole text is in it, so what parts lacked is not lost."""
        return b"event: done\ndata: %b\n\n" % self._encode_reply(reply)

    def error(self, error: RequestError) -> bytes:
        """See the interface."""
        return b"event: error\ndata: %b\n\n" % self._encode_error(error)
