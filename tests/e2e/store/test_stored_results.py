"""Results in the result store between real processes: which go there, how they are fetched, and what breaks it."""

from __future__ import annotations

import fcntl
import json
import secrets
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.store.site import RAW, Site
from tests.helpers import eventually

LARGE = bytes(range(256)) * 400
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def site(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(valkey_url, f"test-{secrets.token_hex(8)}", tmp_path_factory.mktemp("site"), RESULTS_MB="1")
    yield site
    site.close()


@pytest.fixture(autouse=True)
def empty(site: Site) -> Iterator[None]:
    """Leave nothing to the next test."""
    yield
    for path in site.objects():
        path.unlink()
    (site.root / ".count").write_bytes(bytes(16))


def data_of(site: Site, request_id: str) -> bytes:
    answer = site.get(request_id)
    assert answer.status == 200, answer.body
    return bytes(answer.body["outputs"][0]["data"])


def test_a_large_result_goes_to_the_store_and_comes_back_whole(site: Site) -> None:
    request_id = site.send(LARGE)
    reply = site.reply(request_id)
    assert reply.outputs is None
    (path,) = site.objects()
    assert reply.at_store == f"{path.parent.name}/{path.name}:{path.stat().st_size}"
    assert path.name.startswith(request_id)
    assert data_of(site, request_id) == LARGE
    assert data_of(site, request_id) == LARGE  # as often as it is asked for


def test_a_small_one_goes_there_only_if_it_is_kept_for_long(site: Site) -> None:
    short, long = site.send(b"short"), site.send(b"long", keep_ms=3_600_000)
    assert site.reply(short).at_store is None
    assert site.reply(long).at_store is None
    assert data_of(site, short) == b"short"


def test_what_nobody_asked_to_keep_stays_in_redis(site: Site) -> None:
    request_id = site.send(LARGE, keep_ms=None)
    assert site.reply(request_id).at_store is None
    assert site.objects() == []
    assert data_of(site, request_id) == LARGE


def test_a_result_that_is_gone_from_the_store_is_410(site: Site) -> None:
    request_id = site.send(LARGE)
    assert site.reply(request_id).at_store
    for path in site.objects():
        path.unlink()
    answer = site.get(request_id)
    assert (answer.status, answer.body["error"]["code"]) == (410, "result_gone")
    assert answer.body["error"]["id"] == request_id


def test_a_request_that_is_answered_later_has_its_result_there(site: Site) -> None:
    headers = {"Content-Type": RAW, "Prefer": "respond-async", "Headrace-Keep": "2h"}
    url = f"{site.stack.url}/v1/models/{site.model}/predict"
    with urllib.request.urlopen(urllib.request.Request(url, b"small, kept for long", headers)) as answer:
        assert answer.status == 202
        request_id = json.load(answer)["id"]
    reply = site.reply(request_id)
    assert reply.at_store
    assert data_of(site, request_id) == b"small, kept for long"
    site.objects()[0].unlink()
    assert site.get(request_id).body["error"]["code"] == "result_gone"


def test_a_store_that_is_full_leaves_results_in_redis(site: Site) -> None:
    large = LARGE * 12  # more than the one MiB of the store
    request_id = site.send(large)
    assert site.reply(request_id).at_store is None
    assert data_of(site, request_id) == large
    assert site.objects() == []
    site.consumer.until("Results stay in Redis, as far as it has room for them: The result store")


def test_a_store_that_cannot_be_written_leaves_results_in_redis(site: Site) -> None:
    first = site.send(LARGE)
    assert site.reply(first).at_store
    partial = site.root / ".partial"
    partial.rmdir()
    partial.write_text("a file in place of the folder")
    try:
        request_id = site.send(LARGE)
        assert site.reply(request_id).at_store is None
        assert data_of(site, request_id) == LARGE
        assert data_of(site, first) == LARGE  # what is there can still be read
    finally:
        partial.unlink()
    assert site.reply(site.send(LARGE)).at_store


def test_a_store_that_does_not_answer_holds_nobody_up(site: Site) -> None:
    site.reply(site.send(LARGE))
    with open(site.root / ".count") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = site.send(LARGE)
        for number in range(20):
            body = str(number).encode()
            answer = site.stack.predict(site.model, body)
            assert bytes(answer.body["outputs"][0]["data"]) == body
        # The store still has its time: nothing of the kept one has been committed.
        assert site.get(kept).status in (202, 404)
        assert site.reply(kept).at_store is None
    assert data_of(site, kept) == LARGE


def test_what_was_taken_is_committed_before_a_consumer_ends(valkey_url: str, model_name: str, tmp_path: Path) -> None:
    site = Site(valkey_url, model_name, tmp_path)
    ids = [site.send(LARGE) for _ in range(30)]
    eventually(lambda: len(site.objects()) > 3)
    assert site.consumer.terminate() == 0
    found = [site.client.lindex(f"hr:{{{model_name}}}:r:default:{request_id}", 0) for request_id in ids]
    waiting = site.client.xlen(f"hr:{{{model_name}}}:q:default")
    assert sum(reply is not None for reply in found) + waiting == len(ids)
    site.close()
