"""A long JSON body without its long lists and texts, found a little at a time.

A JSON decoder goes through a body in one go, and the event loop waits for it: a third of a second for 16 MiB of empty
lists. What makes an honest body long is the data of a tensor or a picture in base64. So these are cut out first, and a
short text stands for each; what is left is short, and is decoded as any other body.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import msgspec

from shared.wire.outcomes import INVALID_INPUT, RequestError, invalid, malformed

from .json_texts import decoded, end_of_text
from .schemas import PredictRequest
from .steps import LARGE_BYTES, Steps

LONG_BYTES = 4096
"""Longer lists and texts are cut out."""

STEPS_AT_ONCE = 256
PIECE_BYTES = 256 * 1024


class _WithData(Protocol):
    @property
    def data(self) -> msgspec.Raw: ...


T = TypeVar("T", bound=_WithData)

_STEM = "cut-"
_STRINGS = re.compile(rb'(?:[\s,\[\]]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")){1,1024}+', re.DOTALL)
_GAP = re.compile(rb"[\s,\[\]]*+")
_OPENERS = re.compile(rb"\[[\s\[]*+\"")
_CLOSERS = re.compile(rb"[\s\]]*+")
_COLON = re.compile(rb"\s*+:")


@dataclass(slots=True)
class _Finder:
    """Finds a character from a place on, again and again from later places, and looks at no byte twice."""

    body: bytes
    what: bytes
    at: int = -1

    def next(self, start: int) -> int:
        """Return where it comes next, the end of the body when it does not."""
        if self.at < start:
            found = self.body.find(self.what, start)
            self.at = len(self.body) if found < 0 else found
        return self.at


@dataclass(frozen=True, slots=True)
class Cuts:
    """What is left of a body, and what was cut out of it, by the JSON text that stands for it."""

    rest: bytes
    cuts: Mapping[bytes, bytes]

    def explained(self, error: RequestError) -> RequestError:
        """Return an error in what is left in the client's terms, without the texts that stand for what was cut out."""
        if error.outcome is not INVALID_INPUT or not self.cuts:
            return error
        if _STEM in error.message:
            return invalid("The name of a member is too long.", error.field)
        if "got 'str'" in error.message:
            return invalid(f"{error.message.rstrip('.')}, or something that is too long here.", error.field)
        return error

    def inputs_restored(self, inputs: Sequence[T]) -> list[T]:
        """Put back what was cut out of a body that has nothing long but the data of its inputs.

        Raises:
            RequestError: ``INVALID_INPUT``: something long stands where nothing long belongs.
        """
        left = dict(self.cuts)
        found = [_with_data(one, left.pop(bytes(one.data), None)) for one in inputs]
        if left:
            raise _misplaced()
        return found

    def restored(self, message: PredictRequest) -> Steps[PredictRequest]:
        """Put back what was cut out.

        Raises:
            RequestError: ``INVALID_INPUT``: something long stands where nothing long belongs.
        """
        left = dict(self.cuts)
        inputs = message.inputs
        if inputs is not None:
            inputs = [_with_data(one, left.pop(bytes(one.data), None)) for one in inputs]
        text = message.image_base64
        if text is not None and b'"%b"' % text.encode() in left:
            text = yield from _text(left.pop(b'"%b"' % text.encode()))
        if left:
            raise _misplaced()
        return msgspec.structs.replace(message, inputs=inputs, image_base64=text)


def _misplaced() -> RequestError:
    return invalid("A text or list is longer than it may be, or a member is there twice.", "body")


def _with_data(tensor: T, data: bytes | None) -> T:
    return tensor if data is None else cast("T", msgspec.structs.replace(cast("Any", tensor), data=msgspec.Raw(data)))


def cut(body: bytes) -> Steps[Cuts]:
    """Cut long lists and texts out of a body.

    Raises:
        RequestError: ``MALFORMED``: it is no JSON, or is long without them.
    """
    quotes, brackets = _Finder(body, b'"'), _Finder(body, b"[")
    braces = (_Finder(body, b"{"), _Finder(body, b"}"))
    stem, cuts = b"%b%b-" % (_STEM.encode(), secrets.token_hex(16).encode()), dict[bytes, bytes]()
    kept: list[bytes] = []
    kept_bytes = kept_up_to = at = steps = 0
    while (start := min(quotes.next(at), brackets.next(at))) < len(body):
        steps += 1
        if steps % STEPS_AT_ONCE == 0:
            yield
        if kept_bytes + start - kept_up_to > LARGE_BYTES:
            raise _too_long()
        if body[start] == 0x22:
            at = end = yield from end_of_text(body, start)
        elif _OPENERS.match(body, start, start + LONG_BYTES):
            end, at = yield from _end_of_texts(body, start)
        else:
            stop = min(quotes.next(start), *(one.next(start) for one in braces))
            end, at = start, start + 1
            if stop - start > LONG_BYTES:  # no list ends behind the last bracket
                end = max(start, body.rfind(b"]", start, stop) + 1)
                at = stop if end == start else end
        if end - start > LONG_BYTES:
            name = b'"%b%d"' % (stem, len(cuts))
            cuts[name] = body[start:end]
            kept += (body[kept_up_to:start], name)
            kept_bytes += start - kept_up_to + len(name)
            kept_up_to = end
            yield
    kept.append(body[kept_up_to:])
    if kept_bytes + len(kept[-1]) > LARGE_BYTES:
        raise _too_long()
    return Cuts(b"".join(kept), cuts)


def _end_of_texts(body: bytes, start: int) -> Steps[tuple[int, int]]:
    """Return where a list of texts ends, as far as it is one, and where to go on; its start where it does not end.

    What is cut out is checked later.
    """
    at = start
    while True:
        if match := _STRINGS.match(body, at, at + PIECE_BYTES):
            last, stop = match.start(1), match.end()
        else:
            gap = _GAP.match(body, at, at + PIECE_BYTES)
            last = gap.end() if gap else at
            if body[last : last + 1] != b'"':
                break
            stop = yield from end_of_text(body, last)  # a long one
        if _COLON.match(body, stop, stop + LONG_BYTES):  # the last text is the name of the next member
            end = body.rfind(b"]", start, last) + 1
            return (end, end) if end > 0 else (start, last)
        at = stop
        yield
    closers = _CLOSERS.match(body, at, at + PIECE_BYTES)
    end = max(body.rfind(b"]", at, closers.end() if closers else at) + 1, at)
    return end, end


def _text(cut_out: bytes) -> Steps[str]:
    """Decode a text."""
    if b"\\" not in cut_out and cut_out.isascii():
        return str(memoryview(cut_out)[1:-1], "ascii")
    return (yield from decoded(cut_out))


def _too_long() -> RequestError:
    return malformed(f"Apart from the data of its inputs the body has more than {LARGE_BYTES} bytes.", "body")
