"""A model that loads: what a client is told on every route, on both ways."""

from __future__ import annotations

import pytest

from tests.e2e.http_server import HttpServer
from tests.fakes import ECHO, InMemoryQueue, demo_queue, echo
from tests.unit.producer_api.asgi import Api


def _queue(*, described: bool) -> InMemoryQueue:
    queue = demo_queue()
    queue.serve("new", ECHO if described else None, echo, workers=0)
    queue.set_loading("new", 7)
    return queue


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize(
    ("content_type", "accept"),
    [("application/octet-stream", "*/*"), ("application/json", "*/*"), ("application/msgpack", "application/msgpack")],
)
def test_a_request_is_refused_with_the_seconds_that_it_will_probably_take(
    described: bool, content_type: str, accept: str
) -> None:
    with Api(queue=_queue(described=described)) as api:
        answer = api.post("new", b"x", content_type, headers=[("Accept", accept)])
        assert (answer.status, answer.error["code"]) == (503, "loading")
        assert answer.headers["retry-after"] == "7"
        assert answer.error["message"] == "Model 'new' is loading; it will probably be ready in 7 s."
        assert answer.error["id"] == answer.headers["x-request-id"]
        assert api.metric("headrace_requests_total", model="new", outcome="loading") == 1
        assert api.post("nobody", b"x").error["code"] == "unknown_model"


def test_once_it_is_served_nothing_is_left_of_it() -> None:
    with Api(queue=_queue(described=True)) as api:
        assert api.post("new", b"x").status == 503
        api.queue.set_workers("new", 1)
        [summary] = [model for model in api.get("/v1/models").json["models"] if model["name"] == "new"]
        assert (summary["state"], summary["ready"]) == ("ready", True)
        assert "ready_in_s" not in summary


def test_a_model_for_which_nothing_comes_has_no_worker() -> None:
    queue = _queue(described=False)
    queue.set_loading("new", None)
    with Api(queue=queue) as api:
        assert api.post("new", b"x").error["code"] == "no_worker"
        assert api.get("/v1/models/new").error["code"] == "no_worker"
        assert {model["name"]: model["state"] for model in api.get("/v1/models").json["models"]}["new"] == "away"


def test_the_lists_of_models_say_so() -> None:
    with Api(queue=_queue(described=False)) as api:
        models = {model["name"]: model for model in api.get("/v1/models").json["models"]}
        assert {name: model["state"] for name, model in models.items()} == {
            "echo": "ready",
            "imagenet": "ready",
            "new": "loading",
        }
        assert (models["new"]["ready_in_s"], models["new"]["ready"]) == (7, False)
        answer = api.get("/v1/models/new")
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "loading", "7")


def test_one_that_was_described_before_still_is() -> None:
    with Api(queue=_queue(described=True)) as api:
        card = api.get("/v1/models/new").json
        assert (card["workers"], card["state"], card["ready_in_s"]) == (0, "loading", 7)
        assert "ready_in_s" not in api.get("/v1/models/echo").json


def test_a_front_end_none_of_whose_models_is_loaded_is_not_ready_and_says_when() -> None:
    queue = _queue(described=False)
    with Api(queue=queue) as api:
        assert api.get("/readyz").status == 200  # the others are
        for name in ("echo", "imagenet"):
            queue.set_workers(name, 0)
        queue.set_loading("imagenet", 3)
        answer = api.get("/readyz")
        assert (answer.status, answer.headers["retry-after"]) == (503, "3")
        assert answer.json["reasons"] == [
            "Model imagenet is loading, probably for 3 s more.",
            "Model new is loading, probably for 7 s more.",
            "No model has a live worker: echo.",
        ]


def test_a_head_that_is_known_is_told_the_same() -> None:
    """The first request of a connection takes the ordinary way, the second the express way."""
    queue = _queue(described=True)
    queue.set_workers("new", 1)
    with HttpServer(queue=queue) as server, server.connect() as connection:
        connection.post("new", b"x")
        assert connection.response()[0] == 200
        queue.set_workers("new", 0)
        for _ in range(2):
            connection.post("new", b"x")
            status, headers, body = connection.response()
            assert (status, body["error"]["code"], headers["retry-after"]) == (503, "loading", "7")
