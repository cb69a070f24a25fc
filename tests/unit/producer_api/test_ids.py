"""Request ids are names, never repeat, and look the same whatever their place in a block."""

from __future__ import annotations

from producer_api.ids import ID_BYTES, RequestIds
from shared.names import is_name


def test_ids_are_names_and_never_repeat() -> None:
    first, second = RequestIds(), RequestIds()
    ids = [first.next() for _ in range(2000)] + [second.next() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert all(is_name(one) and len(one) == 2 * ID_BYTES for one in ids)
