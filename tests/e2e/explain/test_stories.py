"""What happened to a request, as the running front end tells it: a story for each kind of request."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from urllib.parse import urlsplit

from shared import keys
from shared.redis.client import connect
from shared.wire.messages import Request, encode_request
from tests.e2e.stack import Response, call
from tests.helpers import eventually

from .conftest import Place, spans

RAW = "application/octet-stream"


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
    place.add(encode_request(request))
    story = place.explained("direct-1")
    assert (story["state"], story["outcome"]) == ("answered", "ok")
    assert "front_end" not in story
    assert set(spans(story)) == {"queue", "company", "run", "commit"}
    assert "Only the consumer's half is known" in story["notes"][0]


def test_what_expired_in_the_queue_never_ran(place: Place) -> None:
    place.hold()
    place.add(encode_request(Request("late-1", 1, "application/octet-stream", b"hello")))
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


def test_what_a_consumer_died_with_is_taken_over_and_says_so(place: Place) -> None:
    place.hold()
    entry = place.add(encode_request(Request("orphan-1", 30_000, "application/octet-stream", b"hello")))
    place.claim_as_a_ghost(entry)
    place.go_on()
    story = place.explained("orphan-1")
    assert (story["state"], story["attempt"], story["batch"]["reason"]) == ("answered", 2, "lone")
    assert spans(story)["queue"] >= 900  # the lease of the consumer that never answered
    assert any("earlier attempt did not end" in note for note in story["notes"])


def test_what_was_given_up_is_a_dead_letter(place: Place) -> None:
    place.hold()
    entry = place.add(encode_request(Request("deadly-1", 30_000, "application/octet-stream", b"hello")))
    place.claim_as_a_ghost(entry, deliveries=5)
    place.go_on()
    story = place.explained("deadly-1")
    assert (story["state"], story["outcome"]) == ("dead", "crashed")
    assert "batch" not in story
    assert "run" not in spans(story)


def test_a_later_request_waits_runs_and_is_over_when_its_result_is_stored(place: Place) -> None:
    place.hold()
    path = place.of_model("/predict?id=later-1")
    accepted = place.ask(path, b"hello", Prefer="respond-async", Content_Type=RAW)
    assert accepted.status == 202
    waits = place.explained("later-1", has=("state",))
    assert waits["state"] == "queued"
    place.go_on()
    story = place.explained("later-1", has=("worker", "front_end"))
    assert (story["state"], story["outcome"]) == ("answered", "ok")
    assert set(spans(story)) == {"admission", "queue", "company", "run", "commit"}
    assert abs(sum(spans(story).values()) - story["total_ms"]) < 0.01
    assert "It is answered later" in story["notes"][0]


def test_what_its_client_took_back_is_cancelled(place: Place) -> None:
    place.hold()
    path = place.of_model("/predict?id=back-1")
    assert place.ask(path, b"hello", Prefer="respond-async", Content_Type=RAW).status == 202
    assert place.ask(place.of_model("/requests/back-1"), method="DELETE").status == 200
    place.go_on()
    story = place.explained("back-1", has=("state", "outcome"))
    assert (story["state"], story["outcome"]) == ("cancelled", "cancelled")


def test_two_that_wait_for_one_run_are_two_stories(place: Place) -> None:
    place.hold()
    answers: list[Response] = []

    def ask() -> None:
        answers.append(place.predict(place.model, b"hello", query="?id=twin-1"))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: waiting(place) >= 1)
    place.go_on()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200, 200]
    told = eventually(lambda: found if len(found := place.stories("twin-1")) == 2 else None)
    assert sorted("worker" in one for one in told) == [False, True]


def test_an_item_of_a_bulk_batch_is_known_to_its_consumer(place: Place) -> None:
    line = {"inputs": [{"name": "input", "shape": [1, 5], "datatype": "UINT8", "data": [[1, 2, 3, 4, 5]]}]}
    made = place.ask(place.of_model("/batches"), json.dumps(line).encode(), Content_Type="application/jsonl")
    assert made.status in (200, 201, 202)
    story = place.explained(f"{made.body['id']}-000000")
    assert (story["state"], story["outcome"]) == ("answered", "ok")
    assert "front_end" not in story
    assert "an item of a bulk batch" in story["notes"][0]


def test_a_generation_has_the_time_to_its_first_token(place: Place) -> None:
    body = json.dumps({"generate": {"prompt": "hello", "max_tokens": 5}}).encode()
    made = place.ask(place.of_model("/predict", place.writer), body, Content_Type="application/json")
    assert made.status == 200
    story = place.explained(made.body["id"], model=place.writer, has=("worker", "front_end"))
    assert 0 < story["first_token_ms"] <= spans(story)["run"]
    assert abs(sum(spans(story).values()) - story["total_ms"]) < 0.01


def test_a_client_that_went_away_left_no_answer(place: Place) -> None:
    place.hold()
    trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    connection = http.client.HTTPConnection(urlsplit(place.url).netloc)
    connection.request(
        "POST", place.of_model("/predict?id=gone-1"), b"hello", {"Content-Type": RAW, "traceparent": trace}
    )
    eventually(lambda: waiting(place) >= 1)
    connection.close()
    story = place.explained("gone-1", has=("front_end",))
    assert (story["state"], story["outcome"], story["trace_id"]) == ("cancelled", "client_closed", trace[3:35])
    assert "went away" in story["notes"][0]
    place.go_on()  # its id is its client's own, so it runs all the same
    assert place.explained("gone-1", has=("worker", "front_end"))["state"] == "answered"


def waiting(place: Place) -> int:
    """How many requests are in the lane."""
    with connect(place.redis_url) as client:
        return int(client.xlen(keys.work(place.model, "default")))
