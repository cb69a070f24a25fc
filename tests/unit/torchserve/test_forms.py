"""Forms as clients send them, and as strangers do."""

from __future__ import annotations

import pytest

from producer_api.parsing.forms import MOST_FIELDS, Field, fields_of_form, fields_of_query
from shared.wire.outcomes import RequestError

TYPE = b"multipart/form-data; boundary=xx"


def _part(name: str, value: bytes, more: bytes = b"") -> bytes:
    return b'--xx\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name.encode(), more, value)


def test_fields_in_their_order() -> None:
    file = b'; filename="a name=\\"b\\".png"\r\nContent-Type: image/PNG; a=b'
    body = _part("data", b"\r\n--x\r\n\0", file) + _part("more", b"") + b"--xx--\r\n"
    assert fields_of_form(body, TYPE) == [Field("data", "image/png", b"\r\n--x\r\n\0"), Field("more", "", b"")]
    assert fields_of_form(b"preamble\r\n" + body, TYPE)[0].name == "data"


def test_the_name_is_not_that_of_the_file() -> None:
    body = b'--xx\r\nContent-Disposition: form-data; filename="f"; name="n"\r\n\r\nv\r\n--xx--'
    assert fields_of_form(body, TYPE) == [Field("n", "", b"v")]


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        (b"", b"multipart/form-data", "names its boundary"),
        (b"hello", TYPE, "does not begin with its boundary"),
        (_part("a", b"b"), TYPE, "ends before its last boundary"),
        (b"--xx\r\nno head", TYPE, "ends before its last boundary"),
        (b"--xx??", TYPE, "After a boundary"),
        (b"--xx\r\nContent-Type: a/b\r\n\r\nv\r\n--xx--", TYPE, "has no name"),
        (_part("a", b"") * (MOST_FIELDS + 1) + b"--xx--", TYPE, f"at most {MOST_FIELDS} fields"),
    ],
)
def test_what_is_no_form(body: bytes, content_type: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        fields_of_form(body, content_type)


def test_queries() -> None:
    assert fields_of_query(b"a=1&b=&c=%C3%A4") == [
        Field("a", "", b"1"),
        Field("b", "", b""),
        Field("c", "", "ä".encode()),
    ]
    with pytest.raises(RequestError, match="at most"):
        fields_of_query(b"&".join([b"a=1"] * (MOST_FIELDS + 1)))
