"""Request ids are names, never repeat, and look the same whatever their place in a block."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer_api.inference.request_ids import ID_BYTES, RequestIds, id_of_key
from shared.api_keys import digest_of
from shared.names import is_name


def test_ids_are_names_and_never_repeat() -> None:
    first, second = RequestIds(), RequestIds()
    ids = [first.next() for _ in range(2000)] + [second.next() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert all(is_name(one) and len(one) == 2 * ID_BYTES for one in ids)


secrets = st.sampled_from([b"", digest_of(b"alice"), digest_of(b"bob")])
keys = st.tuples(secrets, st.text("ab1-", min_size=1, max_size=4))


@given(keys, keys)
def test_a_key_and_whose_it_is_make_the_id(one: tuple[bytes, str], other: tuple[bytes, str]) -> None:
    ids = [id_of_key(key.encode(), secret) for secret, key in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)
    assert all(is_name(found) for found in ids)
