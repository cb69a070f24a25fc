"""Answers within a number of bytes and for a number of seconds."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from producer_api.caching.result_cache import ENTRY_BYTES, LARGEST_SHARE, ResultCache
from shared.wire.messages import ModelTag, Reply, Timing

REPLY = Reply("id", ModelTag("m", "1", "fp32"), Timing())
ROOM = 10 * ENTRY_BYTES


def put(cache: ResultCache, key: bytes, now_s: float = 0.0, data_bytes: int = 0) -> bool:
    return cache.put(key, REPLY, data_bytes, now_s, is_short=True)


def test_the_least_used_go_first() -> None:
    cache = ResultCache(ROOM)
    for number in range(10):
        assert put(cache, b"%d" % number)
    assert cache.get(b"0", 0.0, 1.0) is not None
    put(cache, b"new")
    assert (cache.get(b"0", 0.0, 1.0) is not None, cache.get(b"1", 0.0, 1.0)) == (True, None)
    assert (len(cache), cache.evicted, cache.used_bytes) == (10, 1, ROOM)


def test_an_answer_is_given_for_its_time_and_no_longer() -> None:
    cache = ResultCache(ROOM)
    put(cache, b"a", now_s=100.0)
    assert cache.get(b"a", 104.9, 5.0) is not None
    assert cache.get(b"a", 105.0, 5.0) is None
    assert cache.get(b"a", 99.0, 5.0) is None  # a clock that went back
    put(cache, b"a", now_s=105.0)
    assert cache.get(b"a", 109.0, 5.0) is not None
    cache.drop_older(120.0, 5.0, most=4)
    assert (len(cache), cache.used_bytes) == (0, 0)


def test_what_would_push_out_too_much_is_not_kept() -> None:
    cache = ResultCache(ROOM)
    put(cache, b"a")
    assert not put(cache, b"a", data_bytes=ROOM // LARGEST_SHARE)
    assert cache.get(b"a", 0.0, 1.0) is None  # nor is what it would have replaced


Steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "limit", "drop", "clear"]), st.integers(0, 6), st.integers(0, 2 * ENTRY_BYTES)
    ),
    max_size=60,
)


@given(Steps)
def test_it_never_holds_more_than_it_may_and_counts_right(steps: Any) -> None:
    cache, now_s = ResultCache(20 * ENTRY_BYTES), 0.0
    stored: dict[bytes, float] = {}
    for what, number, size in steps:
        key, now_s = b"%d" % number, now_s + number
        if what == "put":
            if put(cache, key, now_s, size):
                stored[key] = now_s
        elif what == "get":
            entry = cache.get(key, now_s, 12.0)
            assert entry is None or (entry.stored_s == stored[key] and now_s - entry.stored_s < 12.0)
        elif what == "limit":
            cache.set_limit(size * 10)
        elif what == "drop":
            cache.drop_older(now_s, 12.0, number)
        else:
            cache.clear()
        assert 0 <= cache.used_bytes <= max(0, cache.limit_bytes)
        found = [cache.get(key, now_s, math.inf) for key in stored]
        assert cache.used_bytes == sum(entry.size_bytes for entry in found if entry is not None)
