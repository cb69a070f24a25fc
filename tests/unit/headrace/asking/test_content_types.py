"""Which content type a file has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.asking.content_types import content_type


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        ("cat.jpg", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("cat.png", b"\xff\xd8\xff\xe0", "image/jpeg"),  # the bytes know better
        ("", b"\x89PNG\r\n\x1a\n", "image/png"),
        ("-", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        ("cat.jpg", b"no picture", "text/plain"),
        ("a.JSON", b"{}", "application/json"),
        ("-", b' {"inputs": []}', "application/json"),
        ("-", b"a sentence", "text/plain"),
        ("a.txt", b"{}", "text/plain"),
        ("a.msgpack", b"\x80", "application/msgpack"),
        ("a.bin", b"text", "application/octet-stream"),
        ("-", b"\x00\x01", "application/octet-stream"),
        ("-", b"\xff\xfe", "application/octet-stream"),
        ("-", b"", "application/octet-stream"),
        ("-", b"x" * 4095 + "é".encode(), "text/plain"),  # cut in two where looking ends
        ("-", b"x" * 4095 + b"\xff\xff\xff", "text/plain"),
        ("-", b"x" * 100 + b"\xff" + b"x" * 5000, "application/octet-stream"),
    ],
)
def test_content_types(name: str, body: bytes, expected: str) -> None:
    assert content_type(name, body) == expected


@given(st.text(), st.binary(max_size=6000))
def test_anything_has_one(name: str, body: bytes) -> None:
    assert "/" in content_type(name, body)
