"""The header of a JPEG file: its size, the number of decoder passes, its orientation. Limits: `decode_cost.py`. Pure.

Source: ITU-T T.81, annex B; where files break its rules, what libjpeg does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import orientation
from .decode_cost import MAX_PARTS, MAX_VISITS, Header, damaged, too_many_parts, too_many_scans

MAGIC = b"\xff\xd8\xff"
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_MARKER_IN_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # there, restarts are part of the data
_SOI, _EOI, _SOS, _COM, _TEM = 0xD8, 0xD9, 0xDA, 0xFE, 0x01
_RESTARTS = range(0xD0, 0xD8)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_ARITHMETIC = range(0xC9, 0xD0)
_APP1 = 0xE1
_NOT_NEEDED = frozenset(range(0xE1, 0xF0)) - {0xEE} | {_COM}
"""Segments that no decoder looks at: only JFIF's and Adobe's say something about colours. Without them a phone's
picture with a second one in it (MPO) is the JPEG that it begins with."""

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
BLOCK = 8
PIECE_BYTES = 1 << 18
SCAN_VISITS = 10_000
"""A scan costs as much as so many samples, however small the picture is."""

ARITHMETIC_WEIGHT = 8
"""Arithmetic decoding takes several times as long, and continues after the end of the data."""


@dataclass(frozen=True, slots=True)
class _Segment:
    code: int
    start: int
    data: bytes
    end: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a start of frame says; ``samples`` by the id of each component, incomplete blocks counted whole."""

    width: int
    height: int
    samples: dict[int, int]
    is_progressive: bool
    weight: int

    @property
    def all_samples(self) -> int:
        return sum(self.samples.values())


def read_header(body: bytes) -> Header | None:
    """Read everything before the first scan, and count the scans where there may be several.

    Returns:
        None: not even one segment is there.

    Raises:
        RequestError: damaged, of too many segments, or with too many scans for its size.
    """
    view = memoryview(body)
    kept = [view[:2]]
    exif, xmp = b"", b""
    frame: _Frame | None = None
    count = 0
    for segment in _segments(body, 2, _MARKER):
        count += 1
        if segment.code == _SOS:
            break
        if segment.code in _FRAMES:
            if frame is not None:
                raise damaged("it has two frames")
            frame = _frame(segment)
        if segment.code == _APP1:
            exif = exif or (segment.data if segment.data.startswith(b"Exif\0\0") else b"")
            xmp = segment.data if segment.data.startswith(_XMP) else xmp
        if segment.code not in _NOT_NEEDED:
            kept.append(view[segment.start : segment.end])
    else:
        if count == 0:
            return None
        raise damaged("it ends before its pixels")
    if frame is None:
        raise damaged("it says nothing of its size")
    # Sequential files whose first scan has all components have no other; libjpeg looks for none either.
    is_single = not frame.is_progressive and segment.data[:1] == bytes([len(frame.samples)])
    visits = frame.all_samples * frame.weight if is_single else _visits(body, segment, frame, count)
    return Header(
        "JPEG",
        frame.width,
        frame.height,
        b"".join([*kept, view[segment.start :]]),
        visits,
        kept_bytes=0 if is_single else 2 * frame.all_samples / (frame.width * frame.height),
        made_bytes=_made_bytes(len(frame.samples)),
        orientation=orientation.from_metadata(exif, xmp),
    )


def _made_bytes(components: int) -> float:
    return {1: 1, 3: 4}.get(components, 8)  # CMYK is turned into RGB afterwards


def _segments(body: bytes, start: int, pattern: re.Pattern[bytes]) -> Iterator[_Segment]:
    """Yield segment after segment, skipping what is between them.

    Raises:
        RequestError: one is cut off, or there are more than :data:`decode_cost.MAX_PARTS`.
    """
    position = start
    for _ in range(MAX_PARTS):
        found = _search(pattern, body, position)
        if found is None:
            return
        code, position = body[found.end() - 1], found.end()
        if code in (_SOI, _EOI):
            return
        if code == _TEM or code in _RESTARTS:
            continue
        end = position + int.from_bytes(body[position : position + 2], "big")
        if end < position + 2 or end > len(body):
            raise damaged("it ends in its header")
        yield _Segment(code, found.start(), body[position + 2 : end], end)
        position = end
    raise too_many_parts("segments")


def _search(pattern: re.Pattern[bytes], body: bytes, start: int) -> re.Match[bytes] | None:
    """Search piece by piece: the interpreter's lock is held within one, and other threads have work to do."""
    for begin in range(start, len(body), PIECE_BYTES):
        if found := pattern.search(body, begin, begin + PIECE_BYTES + 1):
            return found
    return None


def _frame(segment: _Segment) -> _Frame:
    data = segment.data
    height, width, count = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big"), data[5:6]
    if not width or not height or not count or not 1 <= count[0] <= 4 or len(data) < 6 + 3 * count[0]:
        raise damaged("its size cannot be read")
    components = [data[6 + 3 * index : 9 + 3 * index] for index in range(count[0])]
    shares = [((component[1] >> 4), component[1] & 15) for component in components]
    if not all(1 <= across <= 4 and 1 <= down <= 4 for across, down in shares):
        raise damaged("its colours cannot be read")
    across, down = max(share[0] for share in shares), max(share[1] for share in shares)
    units = _whole(width, BLOCK * across) * _whole(height, BLOCK * down)
    samples = {
        component[0]: units * BLOCK * BLOCK * share[0] * share[1]
        for component, share in zip(components, shares, strict=True)
    }
    weight = ARITHMETIC_WEIGHT if segment.code in _ARITHMETIC else 1
    return _Frame(width, height, samples, segment.code in _PROGRESSIVE, weight)


def _whole(length: int, unit: int) -> int:
    return -(-length // unit)


def _visits(body: bytes, first: _Segment, frame: _Frame, count: int) -> int:
    """Count the samples that all scans go over, up to the limit."""
    visits = _visits_of(first.data, frame)
    for segment in _segments(body, first.end, _MARKER_IN_SCAN):
        count += 1
        if segment.code == _SOS:
            visits += _visits_of(segment.data, frame)
        if visits > MAX_VISITS:
            raise too_many_scans()
        if count > MAX_PARTS:
            raise too_many_parts("segments")
    return visits


def _visits_of(scan: Sequence[int], frame: _Frame) -> int:
    ids = scan[1 : 1 + 2 * scan[0] : 2] if scan else ()
    samples = sum(frame.samples.get(one, 0) for one in ids)
    return max(SCAN_VISITS, samples * frame.weight)
