"""What Prefer and Headrace-Keep say, and what they may not say."""

from __future__ import annotations

import pytest

from producer_api.later.preferences import LONGEST_WAIT_S, MOST_BYTES, Later, duration_ms, later_of
from shared.wire.outcomes import MALFORMED, RequestError

ASYNC = Later()


@pytest.mark.parametrize(
    ("prefer", "asked"),
    [
        (b"respond-async", ASYNC),
        (b" RESPOND-ASYNC ;q=1", ASYNC),
        (b", ,respond-async,,", ASYNC),
        (b"return=minimal, respond-async", ASYNC),
        (b'foo="a, b", respond-async', ASYNC),
        (b'foo="a\\"b"; x="1,2", respond-async; a=b; c', ASYNC),
        (b"respond-async, wait=10", Later(10, None, b"respond-async, wait=10")),
        (b'wait = "10", respond-async', Later(10, None, b"respond-async, wait=10")),
        (b"respond-async, wait=5, wait=soon", Later(5, None, b"respond-async, wait=5")),
        (b"respond-async, wait=0", ASYNC),
        (b"respond-async, wait=999999999", Later(LONGEST_WAIT_S, None, b"respond-async, wait=60")),
        (b"", None),
        (b"wait=10", None),
        (b"respond-asynchronously", None),
        (b'foo="respond-async"', None),
        (b"foo; respond-async", None),
        (b"wait=soon; \xff", None),
    ],
)
def test_preferences(prefer: bytes, asked: Later | None) -> None:
    assert later_of(prefer, {}) == asked


@pytest.mark.parametrize(
    "prefer",
    [
        b"respond-async=1",
        b'respond-async="yes"',
        b"respond-async, wait",
        b"respond-async, wait=-1",
        b"respond-async, wait=1.5",
        b"respond-async, wait=9999999999",
        b"respond-async, =",
        b'respond-async, foo="',
        b"respond-async foo",
        b"respond-async, \xff\x00",
        b"respond-async" + b"," * 2000,
    ],
)
def test_what_is_no_preference_is_refused(prefer: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        later_of(prefer, {})
    assert (caught.value.outcome, caught.value.field) == (MALFORMED, "Prefer")


@pytest.mark.parametrize("piece", [b'a="', b'a;b="', b"a ;", b"a = ", b'"\\', b';"",'])
def test_a_hostile_header_takes_no_time(piece: bytes) -> None:
    """It would be hours if the pattern went back over what it has read."""
    outcome = None
    try:
        later_of((b"respond-async," + piece * 500)[:MOST_BYTES], {})
    except RequestError as error:
        outcome = error.outcome
    assert outcome in (None, MALFORMED)


@pytest.mark.parametrize(
    ("said", "duration"),
    [(b"1", 1000), (b"90s", 90_000), (b"15m", 900_000), (b" 12h ", 43_200_000), (b"7d", 604_800_000)],
)
def test_a_duration(said: bytes, duration: int) -> None:
    assert duration_ms(said) == duration
    assert later_of(b"respond-async", {b"headrace-keep": said}) == Later(0, duration)


@pytest.mark.parametrize(
    "said", [b"", b"0", b"0d", b"8d", b"-1", b"1.5h", b"1w", b"1 h", b"9999999999", b"\xb2", b"1h1m"]
)
def test_what_is_no_duration_is_refused(said: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        later_of(b"respond-async", {b"headrace-keep": said})
    assert (caught.value.outcome, caught.value.field) == (MALFORMED, "Headrace-Keep")
