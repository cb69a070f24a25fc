"""The routes besides predict."""

from __future__ import annotations

import logging
import re
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from consumer.models.base import Result
from producer_api.metrics import queue_metrics
from shared.state.cards import Trial, Tuning
from shared.version import __version__
from shared.wire.messages import VERSION
from shared.wire.outcomes import ALL
from tests.children import ROOT
from tests.fakes import CLASSIFIER, InMemoryQueue, classify, demo_queue
from tests.unit.producer_api.asgi import Api


def test_health_and_version(api: Api) -> None:
    assert api.get("/healthz").json == {"status": "ok"}
    assert api.get("/version").json == {
        "name": "headrace",
        "version": __version__,
        "protocol": VERSION,
        "commit": "abc123",
    }


def test_ready(api: Api) -> None:
    answer = api.get("/readyz")
    assert answer.status == 200
    assert [(model["name"], model["workers"]) for model in answer.json["models"]] == [("echo", 1), ("imagenet", 1)]
    api.queue.set_workers("echo", 0)
    assert api.get("/readyz").status == 200
    api.queue.set_workers("imagenet", 0)
    answer = api.get("/readyz")
    assert answer.status == 503
    assert answer.json["reasons"] == ["No model has a live worker: echo, imagenet."]
    assert answer.headers["retry-after"] == "1"
    api.queue.redis_ok = False
    assert api.get("/readyz").json["reasons"][0] == "Redis does not answer."


def test_not_ready_while_requests_are_refused_for_want_of_memory(api: Api) -> None:
    api.queue.memory_full = True
    assert api.post("echo", b"x").error["code"] == "queue_out_of_memory"
    answer = api.get("/readyz")
    assert answer.status == 503
    assert answer.json["reasons"] == ["Redis is nearly out of memory."]
    api.queue.memory_full = False
    assert api.post("echo", b"x").status == 200
    assert api.get("/readyz").status == 200


def test_not_ready_when_a_worker_has_no_card_or_nothing_was_served() -> None:
    queue = InMemoryQueue()
    with Api(queue=queue) as api:
        assert api.get("/readyz").json["reasons"] == ["No model has been served yet."]
        queue.serve("old", None, lambda request: Result())
        assert api.get("/readyz").status == 503


def test_models(api: Api) -> None:
    models = api.get("/v1/models").json["models"]
    assert [model["name"] for model in models] == ["echo", "imagenet"]
    assert models[0] == {
        "name": "echo",
        "version": "1",
        "family": "python",
        "precision": "fp32",
        "workers": 1,
        "queued": 0,
        "ready": True,
        "serving": "open",
        "state": "ready",
    }
    card = api.get("/v1/models/imagenet").json
    assert card["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [4, 4, 3]}]
    assert card["labels"] == list(CLASSIFIER.labels or ())
    assert card["batch"] == {"max_batch": 4, "window_ms": 5.0, "policy": "window"}
    assert card["workers"] == 1
    assert api.get("/v1/models/echo").json["labels"] is None


def test_a_model_says_what_runs_it_and_how_it_came_to_that() -> None:
    trials = (Trial("torch", "fp32", "not faster.", 12.5, 8), Trial("onnxruntime", "fp32", "chosen.", 50.0, 4))
    tuning = Tuning("tuned", "onnxruntime in fp32 is the fastest.", trials, "Batches gain little here.")
    queue = InMemoryQueue()
    queue.serve("m", msgspec.structs.replace(CLASSIFIER, runtime="onnxruntime", tuning=tuning), classify)
    with Api(queue=queue) as api:
        shown = api.get("/v1/models/m").json
        assert "recipe" not in shown
        assert shown["runtime"] == "onnxruntime"
        assert msgspec.convert(shown["tuning"], Tuning) == tuning
        document = api.get("/openapi.json").json
        schema = {"$ref": "#/components/schemas/ModelInfo", "components": document["components"]}
        Draft202012Validator(schema).validate(shown)


def test_models_that_are_not_there() -> None:
    queue = demo_queue()
    queue.serve("old", None, lambda request: Result())
    with Api(queue=queue) as api:
        assert api.get("/v1/models/nobody").error["code"] == "unknown_model"
        answer = api.get("/v1/models/old")
        assert (answer.status, answer.error["code"]) == (503, "no_worker")
    with Api(queue=InMemoryQueue()) as api:
        api.queue.redis_ok = False
        for target in ("/v1/models", "/v1/models/echo"):
            answer = api.get(target)
            assert (answer.status, answer.error["code"]) == (503, "queue_unavailable")


@pytest.mark.parametrize(
    "path", ["/v1/models", "/healthz", "/readyz", "/version", "/metrics", "/openapi.json", "/docs"]
)
def test_methods_and_slashes(api: Api, path: str) -> None:
    assert api.get(path, method="HEAD").status == 200
    for method in ("POST", "DELETE", "PUT", "OPTIONS", "TRACE"):
        answer = api.get(path, method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.error["code"] == "method_not_allowed"
    answer = api.get(path + "/")
    assert answer.status == 404
    assert answer.error["message"]


def test_a_fault_is_logged_and_not_shown(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("secret")

    api.queue.catalogue = broken  # type: ignore[method-assign]
    with caplog.at_level(logging.ERROR):
        answer = api.get("/v1/models")
    assert (answer.status, answer.error["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    assert "ZeroDivisionError: secret" in caplog.text


def test_metrics(api: Api) -> None:
    queue_metrics(api.registry)
    api.post("echo", b"hello")
    api.post("imagenet", bytes(48))
    api.post("echo", b"")
    for number in range(300):
        assert api.post(f"made-up-{number}", b"x").status == 404
        assert api.get(f"/made/up/{number}").status == 404
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    assert {
        "headrace_http_request_duration_seconds",
        "headrace_requests",
        "headrace_requests_in_flight",
        "headrace_admit_duration_seconds",
        "headrace_reply_wait_seconds",
        "headrace_transport_seconds",
        "headrace_payload_bytes",
        "headrace_redis_errors",
        "headrace_build_info",
    } <= set(families)
    assert sum(len(family.samples) for family in families.values()) < 500
    assert api.metric("headrace_requests_total", model="echo", outcome="ok") == 1
    assert api.metric("headrace_requests_total", model="echo", outcome="invalid_input") == 1
    assert api.metric("headrace_requests_total", model="unknown", outcome="unknown_model") == 300
    assert api.metric("headrace_payload_bytes_count", direction="in") == 3
    assert api.metric("headrace_payload_bytes_sum", direction="in") == 53
    predict = "/v1/models/{model}/predict"
    assert api.metric("headrace_http_request_duration_seconds_count", route=predict, code="2xx") == 2
    assert api.metric("headrace_http_request_duration_seconds_count", route=predict, code="4xx") == 301
    assert api.metric("headrace_http_request_duration_seconds_count", route="other", code="4xx") == 300
    assert api.metric("headrace_build_info", version=__version__, protocol=str(VERSION), commit="abc123") == 1


def test_what_objectives_and_alerts_count_is_at_0_before_it_happens(api: Api) -> None:
    """To Prometheus a series that is born with its first failures has not grown."""
    rules = "".join(path.read_text() for path in (ROOT / "deploy/prometheus/rules").glob("*.yml"))
    counted = {code for codes in re.findall(r'outcome=~?"([\w|]+)"', rules) for code in codes.split("|")}
    counted |= {outcome.code for outcome in ALL if outcome.status >= 500} | {"ok"}
    for model in ("echo", "imagenet", "unknown"):
        shown = {code: api.metric("headrace_requests_total", model=model, outcome=code) for code in counted}
        assert shown == dict.fromkeys(counted, 0)
    assert api.metric("headrace_requests_total", model="new", outcome="internal") is None
    api.queue.serve("new", None, lambda request: Result())
    assert api.metric("headrace_requests_total", model="new", outcome="internal") == 0
    assert api.post("new", b"x").status == 503
    assert api.metric("headrace_requests_total", model="new", outcome="no_worker") == 1
