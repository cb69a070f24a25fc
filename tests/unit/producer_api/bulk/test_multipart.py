"""Multipart uploads as they come in pieces."""

from __future__ import annotations

import pytest

from producer_api.bulk.readers.items import Item
from producer_api.bulk.readers.multipart import MOST_HEAD_BYTES, Multipart, boundary_of
from shared.wire.outcomes import BODY_TOO_LARGE, RequestError

BOUNDARY = b"xyz"


def part(head: bytes, body: bytes) -> bytes:
    return b"--xyz\r\n" + head + b"\r\n\r\n" + body + b"\r\n"


def read(upload: bytes, piece_bytes: int, most_part_bytes: int = 1000) -> list[Item]:
    reader = Multipart(BOUNDARY, most_part_bytes)
    items: list[Item] = []
    for at in range(0, len(upload), piece_bytes):
        items += reader.feed(upload[at : at + piece_bytes])
    return [*items, *reader.close()]


FILES = (
    part(b'Content-Disposition: form-data; name="f"; filename="a \\"b\\".jpg"\r\nContent-Type: image/jpeg', b"\r\n--xy")
    + part(b'content-disposition: form-data; name="g"', b"")
    + b"--xyz\r\n\r\nno head\r\n"
    + b"--xyz--\r\nepilogue"
)


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 5, 10_000])
def test_parts_are_the_same_however_they_are_cut(piece_bytes: int) -> None:
    first, second, third = read(FILES, piece_bytes)
    assert (first.name, first.content_type, first.body) == ('a "b".jpg', b"image/jpeg", b"\r\n--xy")
    assert (second.name, second.body) == ("g", b"")
    assert (third.name, third.body) == ("", b"no head")


@pytest.mark.parametrize("piece_bytes", [7, 100_000])
def test_a_part_that_is_too_large_errs_alone(piece_bytes: int) -> None:
    upload = part(b"", b"x" * 5000).replace(b"\r\n\r\n\r\n", b"\r\n\r\n") + part(b"", b"y").replace(
        b"\r\n\r\n\r\n", b"\r\n\r\n"
    )
    large, small = read(upload + b"--xyz--", piece_bytes)
    assert large.error is not None
    assert (large.error.outcome, small.body) == (BODY_TOO_LARGE, b"y")
    assert "5000" in large.error.message


def test_nothing_of_a_part_that_is_too_large_is_held() -> None:
    reader = Multipart(BOUNDARY, 1000)
    assert list(reader.feed(b"--xyz\r\n\r\n")) == []
    for _ in range(100):
        assert list(reader.feed(b"x" * 1000)) == []
        assert len(reader._buffer) < 3000


@pytest.mark.parametrize(
    ("upload", "says"),
    [
        (FILES[:-15], "ends before its last boundary"),
        (b"--xyz\r\nName: x", "ends before its last boundary"),
        (b"", "ends before its last boundary"),
        (b"x" * 20_000, "does not begin with its boundary"),
        (b"--xyz??", "After a boundary comes a line end"),
        (b"--xyz\r\n" + b"a" * (MOST_HEAD_BYTES + 10), "headers of a part"),
        (part(b"no colon", b"x") + b"--xyz--", "no colon"),
    ],
)
def test_an_upload_that_is_broken_is_refused(upload: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        read(upload, 1000)


def test_a_boundary_is_named() -> None:
    assert boundary_of(b"multipart/form-data; boundary=abc; x=y") == b"abc"
    assert boundary_of(b'multipart/mixed; Boundary="a b;c"') == b"a b;c"
    with pytest.raises(RequestError, match="names its boundary"):
        boundary_of(b"multipart/form-data")
