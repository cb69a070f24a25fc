"""What happened to a request, as the running front end tells it: a story for each kind of request."""

from __future__ import annotations

import time

from shared import keys
from shared.redis.client import connect
from shared.wire.messages import Request, encode_request
from tests.e2e.stack import call

from .conftest import Place, spans


def test_of_an_ordinary_request_every_part_is_known_and_they_add_up(place: Place) -> None:
    answer = place.predict(place.model, b"hello")
    story = place.explained(answer.body["id"], has=("worker", "front_end"))
    assert (story["state"], story["outcome"], story["attempt"], story["lane"]) == ("answered", "ok", 1, "default")
    assert set(spans(story)) == {"admission", "queue", "company", "run", "commit", "way_back"}
    assert abs(sum(spans(story).values()) - story["total_ms"]) < 0.01
    assert story["batch"]["rows"] == 1
    assert story["batch"]["reason"] == "idle"
    assert story["batch"]["id"].startswith(story["worker"])
    assert story["total_ms"] >= answer.body["timing"]["inference_ms"]
    assert abs(story["at_ms"] - time.time() * 1000) < 60_000
    assert story["notes"] == []


def test_the_console_finds_the_same_whether_it_is_told_the_model_or_not(place: Place) -> None:
    request_id = place.predict(place.model, b"hello").body["id"]
    story = place.explained(request_id, has=("worker", "front_end"))
    for query in (f"?model={place.model}", ""):
        answer = call(f"{place.url}/console/requests/{request_id}{query}")
        assert (answer.status, answer.body["found"]) == (200, [story])


def test_what_the_front_end_refused_was_never_in_the_queue(place: Place) -> None:
    answer = place.predict(place.model, b"hello", "image/x-unheard-of")
    assert answer.status == 415
    story = place.explained(answer.body["error"]["id"], has=("front_end",))
    assert (story["state"], story["outcome"], story["spans"]) == ("failed", "unsupported_media_type", [])
    assert "refused it before it reached the queue" in story["notes"][0]


def test_of_a_direct_producers_request_only_the_consumers_half_is_known(place: Place) -> None:
    request = Request("direct-1", 30_000, "application/octet-stream", b"hello")
    add(place, encode_request(request))
    story = place.explained("direct-1")
    assert (story["state"], story["outcome"]) == ("answered", "ok")
    assert "front_end" not in story
    assert set(spans(story)) == {"queue", "company", "run", "commit"}
    assert "Only the consumer's half is known" in story["notes"][0]


def test_what_expired_in_the_queue_never_ran(place: Place) -> None:
    place.hold()
    add(place, encode_request(Request("late-1", 1, "application/octet-stream", b"hello")))
    place.go_on()
    story = place.explained("late-1", has=("worker",))
    assert (story["state"], story["outcome"]) == ("failed", "expired")
    assert set(spans(story)) == {"queue"}
    assert "batch" not in story


def test_asking_again_with_the_same_id_is_a_story_without_a_run(place: Place) -> None:
    first = place.predict(place.model, b"hello", query="?id=again-1")
    assert place.explained("again-1", has=("worker", "front_end"))["outcome"] == "ok"
    again = place.predict(place.model, b"hello", query="?id=again-1")
    assert again.body["outputs"] == first.body["outputs"]
    story = place.explained("again-1", has=("front_end", "notes"))
    assert story["state"] == "answered"


def test_an_id_that_nobody_knows_is_not_found_and_how_far_the_log_reaches_is_said(place: Place) -> None:
    place.explained(place.predict(place.model, b"hello").body["id"], has=("front_end",))
    answer = call(f"{place.url}/v1/models/{place.model}/requests/never-came/explain")
    assert (answer.status, answer.body["error"]["code"]) == (404, "unknown_request")
    assert f"The request log of {place.model} reaches back " in answer.body["error"]["message"]
    wrong = call(f"{place.url}/v1/models/{place.model}/requests/no%20name/explain")
    assert (wrong.status, wrong.body["error"]["field"]) == (400, "id")
    assert call(f"{place.url}/console/requests/%3Cscript%3E").status == 400
    assert call(f"{place.url}/console/requests/x1?model=nobody").body["error"]["code"] == "unknown_model"


def add(place: Place, message: bytes) -> None:
    """Put a message into the lane as a direct producer does."""
    with connect(place.redis_url) as client:
        client.xadd(keys.work(place.model, "default"), {keys.MESSAGE_FIELD: message}, nomkstream=True)
