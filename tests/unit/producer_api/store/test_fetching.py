"""Pieces of a body become parts, and nothing stays of one that does not end well; what a key may have is counted."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from producer_api.store.aside import StoreAside
from producer_api.store.fetching import Fetching
from producer_api.store.reference import Reference, parse
from producer_api.store.upload_limits import MOST_PER_KEY, Use, check, uses_of
from producer_api.store.uploads import Owner
from shared.results.folder import FolderStore
from shared.results.references import StoredBody
from shared.results.store import Found
from shared.wire.outcomes import RequestError

OWNER = Owner("0" * 16, "default")
URL = Reference("image/png", url="http://a/")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FolderStore]:
    made = FolderStore(tmp_path / "store", 1 << 20)
    yield made
    made.close()


async def given_as(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def fetched(store: FolderStore, pieces: Sequence[bytes], reference: Reference = URL, most: int = 1000) -> StoredBody:
    return asyncio.run(Fetching(StoreAside(store), most, 100).fetch(given_as(pieces), reference, OWNER, 60))


def stored(store: FolderStore) -> list[Found]:
    return list(store.list("bodies"))


@pytest.mark.parametrize("sizes", [[1], [100], [99, 1, 100], [250], [50, 300, 7], [1] * 201])
def test_parts_have_one_size_whatever_the_pieces_have(store: FolderStore, sizes: list[int]) -> None:
    pieces = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    place = fetched(store, pieces)
    whole = b"".join(pieces)
    parts = [store.get(key, 100) for key in place.keys("default")]
    assert b"".join(parts) == whole
    assert [len(part) for part in parts[:-1]] == [100] * (len(parts) - 1)
    assert (place.size_bytes, place.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())


@pytest.mark.parametrize(
    ("pieces", "reference", "code"),
    [
        ([bytes(600), bytes(600)], URL, "body_too_large"),
        ([], URL, "reference_failed"),
        ([bytes(150)], Reference("image/png", url="u", bytes=149), "invalid_input"),
        ([bytes(150)], Reference("image/png", url="u", sha256="0" * 64), "invalid_input"),
    ],
)
def test_nothing_stays_of_what_is_not_right(
    store: FolderStore, pieces: list[bytes], reference: Reference, code: str
) -> None:
    with pytest.raises(RequestError) as error:
        fetched(store, pieces, reference)
    assert error.value.outcome.code == code
    assert stored(store) == []


def test_nothing_stays_of_what_nobody_waits_for(store: FolderStore) -> None:
    begun, closed = asyncio.Event(), []

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield bytes(250)
            begun.set()
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def cancel() -> None:
        fetching = Fetching(StoreAside(store), 1000, 100)
        task = asyncio.create_task(fetching.fetch(endless(), URL, OWNER, 60))
        await begun.wait()
        assert len(stored(store)) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert closed == [True]
    assert stored(store) == []


def test_a_full_store_is_507_and_nothing_stays(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store", 250)
    with pytest.raises(RequestError) as error:
        fetched(store, [bytes(400)])
    assert error.value.outcome.code == "store_full"
    assert stored(store) == []
    store.close()


# --- limits


def found(owner: str, body: str, name: str, size_bytes: int) -> Found:
    return Found(f"bodies/default/{owner}/{body}/{name}", size_bytes, None)


def test_an_upload_counts_as_declared_and_a_fetched_body_as_it_is() -> None:
    objects = [
        found("a", "1", "begun-1000", 80),
        found("a", "1", "part-000001", 10),
        found("a", "2", "part-000001", 100),
        found("a", "2", "part-000002", 50),
        found("b", "3", "begun-5", 80),
        Found("results/x", 7, None),
    ]
    assert uses_of(objects) == {"a": Use(2, 1150), "b": Use(1, 80)}


def test_a_key_and_all_keys_have_limits() -> None:
    uses = {"a": Use(1, 600), "b": Use(MOST_PER_KEY, 300)}
    check(uses, "a", 400, 1000, 1300)
    check(uses, "c", 400, 1000, 1300)
    for owner, size_bytes, says in (("a", 401, "Your key's"), ("b", 1, "Your key may have 64"), ("c", 401, "All keys")):
        with pytest.raises(RequestError, match=says) as error:
            check(uses, owner, size_bytes, 1000, 1300)
        assert error.value.outcome.code == "upload_limit"


# --- references


@given(some.binary(max_size=200))
def test_no_bytes_make_reading_a_reference_fail_in_another_way(document: bytes) -> None:
    error = _refusal(document)
    assert error is None or (error.outcome.status in (400, 422) and error.message.endswith("."))


def _refusal(document: bytes) -> RequestError | None:
    try:
        parse(document)
    except RequestError as error:
        return error
    return None
