"""What ``Cache-Control`` of a request asks for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_api.caching.freshness import ANY, Freshness, freshness_of


@pytest.mark.parametrize(
    ("header", "freshness"),
    [
        (None, ANY),
        (b"", ANY),
        (b"no-cache", Freshness(may_read=False)),
        (b"No-Store", Freshness(may_read=False, may_store=False)),
        (b"only-if-cached, max-age=30", Freshness(max_age_s=30)),
        (b'max-age="30", max-age=60', Freshness(max_age_s=30)),
        (b"max-age=0", Freshness(may_read=False, max_age_s=0)),
        (b"max-age=soon", Freshness(may_read=False, max_age_s=0)),
        (b"no-transform,\tno-cache ", Freshness(may_read=False)),
    ],
)
def test_directives(header: bytes | None, freshness: Freshness) -> None:
    assert freshness_of(header) == freshness


@given(st.binary(max_size=400))
def test_any_bytes_are_read(header: bytes) -> None:
    freshness = freshness_of(header)
    assert 0 <= freshness.max_age_s <= math.inf
    assert freshness.may_store or not freshness.may_read
