"""Long texts and giant elements in JSON: read a piece at a time, or refused unread, and never looked at for ever."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from producer_api.inference.codec import Limits
from producer_api.inference.decoding import decode_in_steps
from producer_api.inference.negotiation import JSON
from producer_api.parsing import json_lists, json_texts
from producer_api.parsing.json_cuts import cut
from producer_api.parsing.steps import Steps, at_once
from shared.state.cards import TensorSpec
from shared.wire.outcomes import INVALID_INPUT, MALFORMED, RequestError
from tests.fakes import card
from tests.unit.producer_api.test_proportion import in_json

MEBIBYTE = 1 << 20
MOST_STEPS = 1000

PARTS = st.sampled_from(["\\", '"', "a", "ä", "€", "😀", "\n", "\u2028", "aaaaaaaaaaaaaaaaaaa"])


@pytest.mark.parametrize("is_escaped", [True, False])
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(PARTS, max_size=40), piece=st.integers(20, 60))
@example(parts=["😀"] * 30, piece=26)
@example(parts=["\\"] * 60, piece=21)
def test_a_text_in_pieces_is_the_text(is_escaped: bool, parts: list[str], piece: int) -> None:
    text = "".join(parts)
    body = json.dumps(text, ensure_ascii=is_escaped).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_texts, "PIECE_BYTES", piece)
        assert at_once(json_texts.end_of_text(b"[" + body + b', "x"]', 1)) == len(body) + 1
        assert at_once(json_texts.decoded(body)) == text
        with pytest.raises(RequestError, match="a text does not end"):
            at_once(json_texts.end_of_text(body[:-1], 0))


@pytest.mark.parametrize("text", [b'"\\x"', b'"\x80"', b'"a\nb"', b'"\\ud83d"', b'"%b"' % (b"\x80" * MEBIBYTE)])
def test_what_is_no_text_is_malformed(text: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        at_once(json_texts.decoded(text))
    assert caught.value.outcome is MALFORMED


def steps_of(body: bytes, datatype: str) -> Steps[object]:
    one = card("m", [TensorSpec("x", datatype, (-1,))], max_batch=1 << 30)
    return decode_in_steps(JSON, body, b"", one, Limits(1000, 1000, 1 << 24), "a", None)


GIANTS: dict[str, Callable[[], tuple[bytes, str]]] = {
    "digits": lambda: (b"[%b]" % (b"1" * MEBIBYTE), "FP32"),
    "digits behind a point": lambda: (b"[0.%b]" % (b"1" * MEBIBYTE), "FP32"),
    "digits of a whole number": lambda: (b"[%b]" % (b"1" * MEBIBYTE), "INT64"),
    "blanks": lambda: (b"[%b1]" % (b" " * MEBIBYTE), "FP32"),
    "blanks and nothing": lambda: (b"[%b]" % (b" " * MEBIBYTE), "FP32"),
    "words": lambda: (b"[%b]" % (b"true" * (MEBIBYTE // 4)), "BOOL"),
    "a text for a number": lambda: (b'["%b"]' % (b"a" * MEBIBYTE), "INT8"),
}


@pytest.mark.parametrize("name", GIANTS)
def test_a_giant_element_is_refused_unread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, datatype = GIANTS[name]()
    read: list[bytes] = []

    def decode(datatype: str, piece: bytes, *_: object, **__: object) -> list[object]:
        read.append(piece)
        return []

    monkeypatch.setattr(json_lists, "_decode", decode)
    with pytest.raises(RequestError, match="An element has more than 65536 characters, blanks included") as caught:
        at_once(steps_of(in_json(data, b"[1]", datatype.encode()), datatype))
    assert (caught.value.outcome, read) == (INVALID_INPUT, [])


@pytest.mark.parametrize("tail", [b"", b'", ', b'"' + b" " * 300_000, b"\\", b'\\"'])
@pytest.mark.parametrize("size", [200_000, MEBIBYTE])
def test_a_list_of_texts_that_does_not_end_is_not_looked_through_for_ever(size: int, tail: bytes) -> None:
    steps = cut(b'{"inputs": [{"data": ["%b%b' % (b"a" * size, tail))
    try:
        for _ in range(MOST_STEPS):
            next(steps)
    except (StopIteration, RequestError):
        return
    pytest.fail("It goes on and on.")
