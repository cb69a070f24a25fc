"""Uploads in parts between real processes: whole ones run, and all others end with a clear error."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.api_keys import digest_of
from tests.e2e.store.client import Client, echoed
from tests.e2e.store.site import Site
from tests.helpers import eventually

BODY = secrets.token_bytes(300_000)
MOST = 65_536


class Two:
    """A site with two tenants."""

    def __init__(self, url: str, folder: Path) -> None:
        keys = {name: f"hr_{secrets.token_urlsafe(32)}" for name in ("alice", "bob")}
        file = folder / "keys.toml"
        file.write_text("".join(f'[keys.{n}]\nsha256 = "{digest_of(k.encode()).hex()}"\n' for n, k in keys.items()))
        self.site = Site(
            url,
            f"test-{secrets.token_hex(8)}",
            folder,
            key=keys["alice"],
            KEYS_FILE=str(file),
            MAX_BODY_BYTES=str(MOST),
            MAX_RECEIVING_BYTES="1000000",
            MAX_SENDING_BYTES="10000000",
            LARGE_BODY_MB="1",
            UPLOADS_PER_KEY_MB="2",
            UPLOADS_MB="3",
        )
        self.alice, self.bob = (Client(self.site.stack.url, self.site.model, key) for key in keys.values())


@pytest.fixture(scope="module")
def two(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    made = Two(valkey_url, tmp_path_factory.mktemp("two"))
    yield made
    made.site.close()


@pytest.fixture(autouse=True)
def nothing_left(two: Two) -> Iterator[None]:
    yield
    for path in two.site.objects("bodies"):
        path.unlink()


def test_a_body_in_parts_runs_like_any_other_and_more_than_once(two: Two) -> None:
    upload = two.alice.upload(BODY)
    assert echoed(two.alice.predict(upload=upload)) == BODY
    assert echoed(two.alice.predict("?timeout_ms=5000", upload=upload, bytes=len(BODY))) == BODY
    state = two.alice.ask("GET", f"/v1/uploads/{upload}").body
    assert (state["status"], state["parts"], state["received"]) == ("complete", 5, [1, 2, 3, 4, 5])
    assert state["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert two.alice.ask("DELETE", f"/v1/uploads/{upload}").status == 204
    assert two.alice.predict(upload=upload).error == (404, "unknown_upload")
    assert two.site.objects("bodies") == []


def test_parts_may_be_shorter_than_usual(two: Two) -> None:
    upload = two.alice.upload(BODY[:5000], part_bytes=1024)
    assert echoed(two.alice.predict(upload=upload)) == BODY[:5000]


def test_another_key_finds_nothing(two: Two) -> None:
    upload, parts = two.alice.upload(BODY), "/v1/uploads/{}/parts/1"
    for answer in (
        two.bob.predict(upload=upload),
        two.bob.ask("GET", f"/v1/uploads/{upload}"),
        two.bob.ask("DELETE", f"/v1/uploads/{upload}"),
        two.bob.ask("PUT", parts.format(upload), b"x"),
        two.bob.complete(upload),
        two.bob.ask("GET", f"/v1/uploads/{'0' * 32}"),
        two.bob.ask("GET", "/v1/uploads/..%2f..%2fresults"),
    ):
        assert answer.error[0] == 404
        assert answer.error[1] in ("unknown_upload", "not_found")
    assert echoed(two.alice.predict(upload=upload)) == BODY


@pytest.mark.parametrize(
    ("document", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"bytes": 0}', "bytes"),
        (b'{"bytes": "5"}', "bytes"),
        (b'{"bytes": 5, "sha256": "xyz"}', "sha256"),
        (b'{"bytes": 5, "more": 1}', "body"),
        (b'{"bytes": 5, "part_bytes": 10}', "part_bytes"),
        (b'{"bytes": 5, "part_bytes": 1000000}', "part_bytes"),
    ],
)
def test_what_does_not_begin_an_upload(two: Two, document: bytes, field: str) -> None:
    answer = two.alice.ask("POST", "/v1/uploads", document)
    assert answer.status in (400, 422), answer.body
    assert answer.body["error"]["field"] == field


def test_what_is_larger_than_any_body_may_be_is_refused_before_it_comes(two: Two) -> None:
    answer = two.alice.begin((1 << 20) + 1)
    assert answer.error == (413, "body_too_large")
    assert "at most 1048576 bytes" in answer.message
    answer = two.alice.begin(1 << 20, part_bytes=1023 + 1)  # as many parts as there may be
    assert answer.status == 201
    assert two.alice.begin((1 << 20) - 1, part_bytes=1024).body["parts"] == 1024


def test_a_part_has_its_length_and_its_number(two: Two) -> None:
    upload = two.alice.begin(100_000).body["id"]
    for number, size, field in ((1, MOST - 1, "body"), (2, MOST, "body"), (0, MOST, "number"), (3, 1, "number")):
        answer = two.alice.part(upload, number, bytes(size))
        assert (*answer.error, answer.body["error"]["field"]) == (422, "invalid_input", field)
    assert two.alice.part(upload, "x", b"x").error == (422, "invalid_input")
    assert two.alice.part(upload, 1, bytes(MOST + 1)).error == (413, "body_too_large")
    assert two.alice.ask("GET", f"/v1/uploads/{upload}").body["received"] == []


def test_an_upload_that_is_not_whole_is_not_run(two: Two) -> None:
    upload = two.alice.begin(3 * MOST).body["id"]
    two.alice.part(upload, 2, bytes(MOST))
    answer = two.alice.complete(upload)
    assert answer.error == (409, "upload_state")
    assert answer.message == "Parts are missing: 1, 3."
    assert two.alice.predict(upload=upload).error == (409, "upload_state")


def test_an_upload_with_another_digest_than_declared_is_not_run(two: Two) -> None:
    upload = two.alice.begin(5, sha256=hashlib.sha256(b"other").hexdigest()).body["id"]
    two.alice.part(upload, 1, b"these")
    answer = two.alice.complete(upload)
    assert (*answer.error, answer.body["error"]["field"]) == (422, "invalid_input", "sha256")
    assert two.alice.part(upload, 1, b"other").status == 204  # and may be put right
    assert two.alice.complete(upload).status == 200


def test_a_complete_upload_changes_no_more(two: Two) -> None:
    upload = two.alice.upload(BODY)
    assert two.alice.part(upload, 1, BODY[:MOST]).error == (409, "upload_state")
    assert two.alice.complete(upload).status == 200


def test_a_body_that_changes_in_the_store_is_not_run(two: Two) -> None:
    upload = two.alice.upload(BODY)
    path = next(path for path in two.site.objects("bodies") if path.name == "part-000003")
    times = path.stat()
    path.write_bytes(bytes(MOST))
    os.utime(path, (times.st_atime, times.st_mtime))
    answer = two.alice.predict(upload=upload)
    assert answer.error == (422, "invalid_input")
    assert "is not there any more, or has changed" in answer.message
    path.unlink()
    assert two.alice.predict(upload=upload).error == (422, "invalid_input")


def test_a_part_that_stops_half_way_leaves_nothing(two: Two) -> None:
    upload = two.alice.begin(MOST).body["id"]
    host, _, port = two.alice.address.partition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"PUT /v1/uploads/{upload}/parts/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {MOST}\r\n"
        connection.sendall(f"{head}Authorization: {two.alice.headers['Authorization']}\r\n\r\n".encode() + bytes(1000))
    assert two.alice.ask("GET", f"/v1/uploads/{upload}").body["received"] == []
    assert two.alice.part(upload, 1, bytes(MOST)).status == 204
    assert "Traceback" not in two.site.front_end.text()


def test_a_key_has_a_limit_and_all_have_one(two: Two) -> None:
    mine = [two.alice.begin(1 << 20).body["id"] for _ in range(2)]
    answer = two.alice.begin(1)
    assert answer.error == (429, "upload_limit")
    assert "Your key's large bodies may take 2 MiB together" in answer.message
    assert int(answer.headers["retry-after"]) > 0
    assert two.bob.begin(1 << 20).status == 201
    assert two.bob.begin(1).message.startswith("All keys together have too many large bodies")
    two.alice.ask("DELETE", f"/v1/uploads/{mine[0]}")
    assert two.alice.begin(1 << 20).status == 201


def test_many_that_begin_at_once_stay_within_the_limit(two: Two) -> None:
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(two.alice.begin(500_000))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [201] * 4 + [429] * 8


def test_what_was_never_used_is_gone_after_its_time(valkey_url: str, two: Two) -> None:
    upload = two.alice.begin(5).body
    assert 3500 < upload["expires_in_s"] <= 3600
    (path,) = two.site.objects("bodies")
    assert json.loads(path.read_bytes())["bytes"] == 5
    os.utime(path, (0, 0))  # its time is over
    assert two.alice.ask("GET", f"/v1/uploads/{upload['id']}").error == (404, "unknown_upload")


def test_a_consumer_without_the_store_says_so(two: Two) -> None:
    upload = two.alice.upload(BODY)
    two.site.consumer.terminate()
    try:
        without = two.site.stack.start_consumer(two.site.model, RESULTS="off")
        eventually(lambda: two.alice.ask("GET", f"/v1/models/{two.site.model}").body.get("workers") == 1)
        answer = two.alice.predict(upload=upload)
        assert answer.error == (503, "store_unavailable")
        assert "this consumer has no result store (HEADRACE_RESULTS)" in answer.message
        without.terminate()
    finally:
        two.site.consumer = two.site.stack.start_consumer(two.site.model)
    eventually(lambda: two.alice.predict(upload=upload).status == 200)
