"""Answers that say where their own time went, because they were asked to."""

from __future__ import annotations

import http.client
import json
import re
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from headrace.client import Client

from .conftest import Place, spans

RAW = "application/octet-stream"
SPANS = {"admission", "queue", "company", "run", "way_back"}
TENSOR = {"name": "input", "shape": [1, 2], "datatype": "UINT8", "data": [1, 2]}


def check(timing: dict[str, Any]) -> None:
    assert set(spans(timing)) == SPANS
    assert abs(sum(spans(timing).values()) - timing["total_ms"]) < 0.01
    assert timing["closed"] == "idle"
    assert timing["attempt"] == 1
    assert timing["batch"].startswith(timing["worker"])


def test_by_header_by_query_and_by_parameter(place: Place) -> None:
    path = place.of_model("/predict")
    by_header = place.ask(path, b"hello", Content_Type=RAW, Headrace_Explain="1")
    by_query = place.ask(f"{path}?explain=true", b"hello", Content_Type=RAW)
    document = json.dumps({"inputs": [TENSOR], "parameters": {"explain": True}}).encode()
    by_parameter = place.ask(path, document, Content_Type="application/json")
    for answer in (by_header, by_query, by_parameter):
        check(answer.body["timing"])
        assert re.search(r"run;dur=[0-9.]+", answer.headers["server-timing"])


def test_what_the_log_says_later_agrees(place: Place) -> None:
    answer = place.ask(place.of_model("/predict"), b"hello", Content_Type=RAW, Headrace_Explain="1").body
    story = place.explained(answer["id"], has=("worker", "front_end"))
    timing = answer["timing"]
    assert (story["worker"], story["batch"]["id"], story["batch"]["reason"]) == (
        timing["worker"],
        timing["batch"],
        timing["closed"],
    )
    assert spans(story)["queue"] == pytest.approx(spans(timing)["queue"], abs=1.1)
    assert spans(story)["run"] == pytest.approx(spans(timing)["run"], abs=0.002)


@pytest.mark.parametrize("header", [{}, {"Headrace_Explain": "0"}, {"Headrace_Explain": "false"}])
def test_without_being_asked_it_says_what_it_always_did(place: Place, header: dict[str, str]) -> None:
    answer = place.ask(place.of_model("/predict"), b"hello", Content_Type=RAW, **header)
    assert set(answer.body["timing"]) == {"queue_ms", "batch_wait_ms", "inference_ms", "total_ms", "batch_size"}
    assert "server-timing" not in answer.headers


def test_a_kept_connection_explains_each_time_and_others_on_it_are_not(place: Place) -> None:
    connection = http.client.HTTPConnection(urlsplit(place.url).netloc)
    plain = {"Content-Type": RAW}
    for headers in 3 * [{**plain, "Headrace-Explain": "1"}, plain]:
        connection.request("POST", place.of_model("/predict"), b"hello", headers)
        answer = connection.getresponse()
        timing = json.loads(answer.read())["timing"]
        assert ("spans" in timing) is ("Headrace-Explain" in headers)
        assert (answer.getheader("Server-Timing") is not None) is ("Headrace-Explain" in headers)
    connection.close()


@pytest.mark.parametrize("value", ["2", "yes", "", "1, 1", "\u00ff"])
def test_a_header_that_is_none_is_refused(place: Place, value: str) -> None:
    answer = place.ask(place.of_model("/predict"), b"hello", Content_Type=RAW, Headrace_Explain=value)
    assert (answer.status, answer.body["error"]["field"]) == (400, "Headrace-Explain")


def test_a_query_that_is_none_is_refused(place: Place) -> None:
    answer = place.ask(place.of_model("/predict?explain=maybe"), b"hello", Content_Type=RAW)
    assert (answer.status, answer.body["error"]["field"]) == (422, "explain")


def test_in_msgpack_too(place: Place) -> None:
    connection = http.client.HTTPConnection(urlsplit(place.url).netloc)
    headers = {"Content-Type": RAW, "Accept": "application/msgpack", "Headrace-Explain": "1"}
    connection.request("POST", place.of_model("/predict"), b"hello", headers)
    check(msgspec.msgpack.decode(connection.getresponse().read())["timing"])
    connection.close()


def test_other_dialects_have_the_header(place: Place) -> None:
    body = json.dumps({"inputs": [TENSOR]}).encode()
    answer = place.ask(f"/v2/models/{place.model}/infer", body, Content_Type="application/json", Headrace_Explain="1")
    assert answer.status == 200
    names = [part.partition(";")[0].strip() for part in answer.headers["server-timing"].split(",")]
    assert set(names) >= SPANS
    assert "worker" in names


def test_what_a_consumer_refused_says_in_a_header_where_it_ran(place: Place) -> None:
    body = json.dumps({"generate": {"prompt": "hello", "temperature": -3}}).encode()
    path = place.of_model("/predict", place.writer)
    answer = place.ask(path, body, Content_Type="application/json", Headrace_Explain="1")
    assert answer.status >= 400
    assert "server-timing" not in answer.headers or "attempt" in answer.headers["server-timing"]


def test_a_result_that_is_fetched_later_says_where_it_ran(place: Place) -> None:
    path = place.of_model("/predict?id=later-explained")
    headers = {"Content_Type": RAW, "Headrace_Explain": "1", "Prefer": "respond-async"}
    assert place.ask(path, b"hello", **headers).status == 202
    answer = place.ask(place.of_model("/requests/later-explained?wait=20"))
    assert set(spans(answer.body["timing"])) == {"queue", "company", "run"}
    assert answer.body["timing"]["worker"]


def test_a_generation_that_is_streamed_says_it_at_its_end(place: Place) -> None:
    connection = http.client.HTTPConnection(urlsplit(place.url).netloc, timeout=30)
    body = json.dumps({"generate": {"prompt": "hello", "max_tokens": 5}, "parameters": {"explain": True}}).encode()
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    connection.request("POST", place.of_model("/predict", place.writer), body, headers)
    text = connection.getresponse().read().decode()
    connection.close()
    done = json.loads(text.rpartition("event: done")[2].partition("data: ")[2].partition("\n")[0])
    assert done["timing"]["first_token_ms"] > 0
    assert done["timing"]["worker"]
    assert "run" in spans(done["timing"])


def test_the_client_has_it_if_it_asks(place: Place) -> None:
    with Client(place.url) as client:
        timing = client.predict(place.model, b"hello", explain=True).timing
        plain = client.predict(place.model, b"hello").timing
    assert {span.name for span in timing.spans} == SPANS
    assert timing.worker
    assert (plain.spans, plain.worker) == ((), "")
