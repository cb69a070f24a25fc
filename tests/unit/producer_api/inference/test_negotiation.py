"""Media types."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.inference.codec import head_of
from producer_api.inference.native import NATIVE, PATH
from producer_api.inference.negotiation import (
    JSON,
    MSGPACK,
    OFFERED,
    X_MSGPACK,
    body_type,
    choose,
    sniff,
    traceparent,
    wants_openmetrics,
)
from shared.wire.outcomes import NOT_ACCEPTABLE, UNSUPPORTED_MEDIA_TYPE, RequestError
from tests.fakes import ECHO


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("APPLICATION/JSON", JSON),
        ("application/msgpack", MSGPACK),
        ("application/x-msgpack", X_MSGPACK),
        ("application/msgpack, */*", MSGPACK),
        ("application/msgpack;q=0.5, application/json;q=0.4", MSGPACK),
        ("application/msgpack;q=0.5, */*;q=0.8", JSON),
        ("application/json;q=0, */*", MSGPACK),
        ("*/*, application/json;q=0", MSGPACK),
        ("application/msgpack ; q=1.000 , text/html", MSGPACK),
        ("text/html, application/xhtml+xml, */*;q=0.1", JSON),
        ("text/html;q=high, application/json", JSON),
        (",,application/json,", JSON),
    ],
)
def test_accept(accept: str, chosen: str) -> None:
    assert choose(accept.encode()) == chosen


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "*/*;q=0", "*", "json", "application/json;q=2", "*/json", ";q=1"]
)
def test_accept_that_allows_nothing(accept: str) -> None:
    with pytest.raises(RequestError) as caught:
        choose(accept.encode())
    assert caught.value.outcome is NOT_ACCEPTABLE


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("text/html, */*;q=0.1", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", True),
        ("application/openmetrics-text;q=0.2, text/plain", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;version=x\x00;escaping=\xff", True),
    ],
)
def test_openmetrics_is_for_those_who_name_it(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept.encode("latin-1")) is wanted


@given(st.binary(max_size=200))
def test_any_accept_is_answered_or_refused(accept: bytes) -> None:
    try:
        chosen = choose(accept)
    except RequestError:
        return
    assert chosen in OFFERED


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (b"application/json", JSON),
        (b"Application/JSON; charset=utf-8", JSON),
        (b"application/x-msgpack", MSGPACK),
        (b"image/png", "image/png"),
    ],
)
def test_content_type(header: bytes, kind: str) -> None:
    assert body_type(header, ("image/png",)) == kind


@pytest.mark.parametrize("header", [b"", b"text/plain", b"image/gif", b"\xff\xfe", b"application/json+x"])
def test_content_type_that_is_not_taken(header: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        body_type(header, ("image/png",))
    assert caught.value.outcome is UNSUPPORTED_MEDIA_TYPE
    assert "image/png" in caught.value.message


def test_sniffing() -> None:
    assert sniff(b"\xff\xd8\xff\xe0rest") == "image/jpeg"
    assert sniff(b"\x89PNG\r\n\x1a\n") == "image/png"
    assert sniff(b"RIFF\x00\x00\x00\x00WEBPVP8 ") == "image/webp"
    for other in (b"", b"\xff\xd8", b"GIF89a", b"RIFF\x00\x00\x00\x00WAVE", b"<svg", b"SIMPLE  =", b"8BPS"):
        assert sniff(other) is None


def test_traceparent() -> None:
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert traceparent(good.encode()) == good
    for bad in (None, b"", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", good.upper().encode(), good.encode() + b"x"):
        assert traceparent(bad) is None


def test_what_strangers_send_is_remembered_up_to_a_length_only() -> None:
    """64 KiB of one header, 256 times, were 16 MiB for ever."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(300):
            filling = b";x=" + b"%04d" % number + b"y" * 60_000
            names = (b"accept", b"content-type")
            head = head_of(PATH, NATIVE, {"model": "m"}, b"", dict.fromkeys(names, b"application/json" + filling))
            assert NATIVE.answer_type(head) == NATIVE.body_kind(head, ECHO) == JSON
            wants_openmetrics(b"text/plain" + filling)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 4 * 1024 * 1024
