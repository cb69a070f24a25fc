"""Files and Batches with OpenAI's own client against a running stack."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from shared import keys
from shared.redis.client import connect
from shared.state.lanes import kind_field
from tests.e2e.openai.conftest import Place
from tests.e2e.openai.test_embeddings import expected
from tests.helpers import eventually


def line(place: Place, name: str, given: Any, **more: Any) -> dict[str, Any]:
    body = {"model": place.letters, "input": given, **more}
    return {"custom_id": name, "method": "POST", "url": "/v1/embeddings", "body": body}


def upload(place: Place, *lines: Any) -> Any:
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines)
    return place.client.files.create(file=("items.jsonl", text.encode()), purpose="batch")


def ended(place: Place, batch_id: str) -> Any:
    def found() -> Any:
        batch = place.client.batches.retrieve(batch_id)
        return batch if batch.status in ("completed", "failed", "expired", "cancelled") else None

    return eventually(found)


def lines_of(place: Place, file_id: str) -> list[Any]:
    return [json.loads(text) for text in place.client.files.content(file_id).text.splitlines()]


def test_a_file_is_kept_listed_and_deleted(place: Place) -> None:
    text = ("line of text\n" * 600_000).encode()
    made = place.client.files.create(file=("my notes.jsonl", text), purpose="batch")
    assert (made.object, made.bytes, made.filename, made.purpose) == ("file", len(text), "my notes.jsonl", "batch")
    assert made.expires_at is not None and made.expires_at > made.created_at
    assert place.client.files.retrieve(made.id) == made
    assert place.client.files.content(made.id).read() == text
    assert made.id in [one.id for one in place.client.files.list()]
    assert place.client.files.delete(made.id).deleted
    for call in (place.client.files.retrieve, place.client.files.content, place.client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)


def test_a_batch_of_a_file(place: Place) -> None:
    bad = line(place, "bad", "")
    file = upload(
        place,
        line(place, "one", "cat"),
        bad,
        line(place, "two", ["dog", "zebra"], encoding_format="base64"),
        line(place, "boom", "boom"),
        line(place, "few", "abz", dimensions=2),
    )
    batch = place.client.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h", metadata={"of": "a test"}
    )
    assert (batch.object, batch.endpoint, batch.input_file_id) == ("batch", "/v1/embeddings", file.id)
    assert batch.expires_at == batch.created_at + 86_400
    done = ended(place, batch.id)
    assert (done.status, done.metadata, done.errors) == ("completed", {"of": "a test"}, None)
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (5, 3, 2)
    answers = lines_of(place, done.output_file_id)
    assert [one["custom_id"] for one in answers] == ["one", "two", "few"]
    assert all(one["error"] is None and one["response"]["status_code"] == 200 for one in answers)
    bodies = [one["response"]["body"] for one in answers]
    assert bodies[0]["data"][0]["embedding"] == pytest.approx(expected("cat"), abs=1e-6)
    assert [isinstance(one["embedding"], str) for one in bodies[1]["data"]] == [True, True]
    assert len(bodies[2]["data"][0]["embedding"]) == 2
    errors = lines_of(place, done.error_file_id)
    assert [(one["custom_id"], one["response"]["status_code"]) for one in errors] == [("bad", 400), ("boom", 400)]
    assert errors[0]["response"]["body"]["error"]["param"] == "input"
    assert place.client.files.retrieve(done.output_file_id).purpose == "batch_output"
    listed = [one.id for one in place.client.batches.list()]
    assert batch.id in listed
    with pytest.raises(openai.ConflictError):
        place.client.batches.cancel(batch.id)


def test_lines_that_do_not_belong_there(place: Place) -> None:
    other = line(place, "other", "a")
    other["body"]["model"] = place.echo
    elsewhere = {**line(place, "elsewhere", "a"), "url": "/v1/chat/completions"}
    file = upload(place, line(place, "fine", "a"), other, elsewhere, "{", line(place, "unknown", "a", colour=1))
    window: Any = "1h"
    batch = place.client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window=window)
    done = ended(place, batch.id)
    assert (done.request_counts.completed, done.request_counts.failed) == (1, 4)
    params = [one["response"]["body"]["error"]["param"] for one in lines_of(place, done.error_file_id)]
    assert params == ["body.model", "url", "body", "colour"]


def test_a_batch_that_is_cancelled(place: Place) -> None:
    file = upload(place, *(line(place, str(n), ["word"] * 50) for n in range(3000)))
    batch = place.client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    try:
        assert place.client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    except openai.ConflictError:
        pytest.fail("the batch had ended before it could be cancelled")
    assert ended(place, batch.id).status == "cancelled"


def test_more_pages_of_batches(place: Place) -> None:
    for _ in range(2):
        file = upload(place, line(place, "a", "a"))
        place.client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    everything = [one.id for one in place.client.batches.list(limit=100)]
    one_by_one = [one.id for one in place.client.batches.list(limit=1)]
    assert one_by_one == everything and len(set(everything)) == len(everything) >= 2


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "30d"}, "completion_window"),
        ({"input_file_id": "file-0"}, "input_file_id"),
        ({"metadata": {str(n): "a" for n in range(17)}}, "metadata"),
        ({"extra_body": {"colour": 1}}, "colour"),
    ],
)
def test_batches_that_are_refused(place: Place, change: dict[str, Any], param: str) -> None:
    file = upload(place, line(place, "a", "a"))
    asked: Any = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "24h", **change}
    with pytest.raises(openai.APIStatusError) as caught:
        place.client.batches.create(**asked)
    assert caught.value.param == param


def test_files_that_are_refused(place: Place) -> None:
    with pytest.raises(openai.BadRequestError) as purpose:
        place.client.files.create(file=b"{}", purpose="fine-tune")
    assert purpose.value.param == "purpose"
    with pytest.raises(openai.BadRequestError) as expiry:
        place.client.files.create(file=b"{}", purpose="batch", expires_after={"anchor": "created_at", "seconds": 5})
    assert expiry.value.param == "expires_after.seconds"
    for content in (b"", b"no json", b'{"body": {}}'):
        file = place.client.files.create(file=("a.jsonl", content), purpose="batch")
        with pytest.raises(openai.BadRequestError) as caught:
            place.client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
        assert caught.value.param == "input_file_id"
    for unknown in ("batch_x", f"batch_{'0' * 24}_{place.letters}"):
        with pytest.raises(openai.NotFoundError):
            place.client.batches.retrieve(unknown)


def test_a_batch_of_conversations(place: Place) -> None:
    def chat(name: str, text: str, **more: Any) -> dict[str, Any]:
        body = {
            "model": place.writer,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": 6,
        }
        return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": {**body, **more}}

    lines = [chat(str(n), f"text {n}") for n in range(5)]
    file = upload(place, *lines, chat("streamed", "a", stream=True), chat("wrong", "a", n=2))
    batch = place.client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    done = ended(place, batch.id)
    texts = [
        (one["custom_id"], one["response"]["body"]["choices"][0]["message"]["content"])
        for one in lines_of(place, done.output_file_id)
    ]
    assert texts == [(str(n), f"text {n}") for n in range(5)]
    errors = lines_of(place, done.error_file_id)
    params = [(one["custom_id"], one["response"]["body"]["error"]["param"]) for one in errors]
    assert params == [("streamed", "stream"), ("wrong", "n")]


def test_a_batch_in_a_batch_lane_is_found_without_saying_so_again(place: Place, valkey_url: str) -> None:
    file, lane = upload(place, line(place, "one", "cat"), line(place, "two", "dog")), {"Headrace-Lane": "nightly"}
    asked: Any = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "2h"}
    with pytest.raises(openai.NotFoundError, match="no batch lane 'nightly'"):
        place.client.batches.create(**asked, extra_headers=lane)
    with connect(valkey_url) as client:
        client.hset(keys.lanes(place.letters), mapping={"nightly": "100,1", kind_field("nightly"): "batch"})
    batch = eventually(lambda: _created(place, asked, lane))
    done = ended(place, batch.id)
    assert (done.status, done.request_counts.completed) == ("completed", 2)
    assert done.expires_at == done.created_at + 7200
    assert [one["custom_id"] for one in lines_of(place, done.output_file_id)] == ["one", "two"]
    assert batch.id in [one.id for one in place.client.batches.list()]


def _created(place: Place, asked: Any, headers: dict[str, str]) -> Any:
    try:
        return place.client.batches.create(**asked, extra_headers=headers)
    except openai.NotFoundError:  # the front end does not know the lane yet
        return None
