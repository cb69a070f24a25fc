"""The result store in a bucket, against a server that speaks S3, in a process of its own."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator

import pytest

from shared.redis.embedded import free_port
from shared.results import s3
from shared.results.opening import open_store
from shared.results.s3 import S3Store
from shared.results.store import Store, StoreError, StoreMissing, StoreTooLarge, delete_below
from shared.settings import Settings
from tests.e2e.store.s3_server import s3_server

BUCKET = "headrace-tests"


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[str]:
    with s3_server(BUCKET) as url:
        yield url


@pytest.fixture
def prefix() -> str:
    return f"some/{secrets.token_hex(4)}"


@pytest.fixture
def store(prefix: str) -> Iterator[Store]:
    opened = open_store(Settings(results=f"s3://{BUCKET}/{prefix}"))
    assert opened is not None
    yield opened
    opened.close()


def keys(store: Store, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


def test_what_is_put_is_got_whole_and_replaced_whole(store: Store) -> None:
    everything = bytes(range(256)) * 1000
    store.put("b/1", everything, 60)
    store.put("b/2", b"", 60)
    assert store.get("b/1", len(everything)) == everything
    assert store.get("b/2", 0) == b""
    store.put("b/1", b"new", 60)
    assert store.get("b/1", 3) == b"new"
    with pytest.raises(StoreTooLarge, match="b/1 has 3 bytes, and at most 2 are read"):
        store.get("b/1", 2)


def test_what_was_never_put_or_is_deleted_is_missing(store: Store) -> None:
    store.put("a/b", b"x", 60)
    assert store.delete("a/b")
    assert not store.delete("a/b")
    for key in ("a/b", "a", "z"):
        with pytest.raises(StoreMissing):
            store.get(key, 10)


def test_list_and_delete_below_go_through_what_is_below(store: Store) -> None:
    for key in ("b/2", "b/1/x", "bb", "c"):
        store.put(key, key.encode(), 60)
    assert keys(store) == ["b/1/x", "b/2", "bb", "c"]
    assert keys(store, "b") == ["b/1/x", "b/2"]
    assert [found.size_bytes for found in store.list("b")] == [5, 3]
    assert delete_below(store, "b") == 2
    assert keys(store) == ["bb", "c"]


def test_more_than_a_page_is_listed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        store.put(f"p/{number}", b"x", 60)
    opened = S3Store(BUCKET, "x")
    listed, real = [], opened._client.list_objects_v2

    def two_at_a_time(**arguments: object) -> object:
        listed.append(arguments)
        return real(MaxKeys=2, **arguments)

    monkeypatch.setattr(opened._client, "list_objects_v2", two_at_a_time)
    for number in range(5):
        opened.put(f"p/{number}", b"x", 60)
    assert keys(opened) == [f"p/{number}" for number in range(5)]
    assert len(listed) == 3
    opened.close()


def test_nobody_reads_what_is_over_and_a_sweep_frees_it(store: Store, prefix: str) -> None:
    store.put("short", b"x", 0)
    store.put("long", b"y", 20_000)
    store.put("longer", b"z", 60)
    store.keep("longer", 20_000)
    with pytest.raises(StoreMissing):
        store.get("short", 10)
    with pytest.raises(StoreMissing):
        store.keep("short", 10)
    assert store.sweep(time.time() + 3_700) == 1  # its marker is of an hour that is over then
    assert keys(store) == ["long", "longer"]
    assert store.sweep(time.time() + 30_000) == 2
    client = s3.make_client()
    assert client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/").get("KeyCount") == 0  # no marker either
    client.close()


def test_what_somebody_else_put_there_is_not_ours(store: Store, prefix: str) -> None:
    client = s3.make_client()
    client.put_object(Bucket=BUCKET, Key=f"{prefix}/o/alien", Body=b"x")
    client.close()
    with pytest.raises(StoreMissing):
        store.get("alien", 10)


@pytest.mark.parametrize("key", ["", "../x", "a/../b", "/a", "a//b"])
def test_a_key_that_could_lead_elsewhere_is_none(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="A key of the store has"):
        store.put(key, b"x", 60)
    with pytest.raises(ValueError, match="A key of the store has"):
        store.get(key, 10)


def test_many_threads_share_one_store(store: Store) -> None:
    def put(number: int) -> None:
        store.put(f"t/{number}", str(number).encode(), 60)
        assert store.get(f"t/{number}", 10) == str(number).encode()

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys(store)) == 8


def test_a_bucket_that_is_not_there_is_an_error_of_one_sentence() -> None:
    missing = S3Store("no-such-bucket", "")
    with pytest.raises(StoreError, match=r"The result store s3://no-such-bucket/ refuses: NoSuchBucket\.") as error:
        missing.put("a", b"x", 60)
    assert not isinstance(error.value, StoreMissing)
    missing.close()


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    away = S3Store(BUCKET, "")
    with pytest.raises(StoreError, match="does not answer: EndpointConnectionError"):
        away.get("a", 10)
    away.close()
