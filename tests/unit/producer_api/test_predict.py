"""The predict endpoint: forms of request, options, answers, errors."""

from __future__ import annotations

import base64
import re
from typing import Any

import msgpack
import pytest

from consumer.models.base import IMAGES, Result
from producer_api.inference.errors import from_fault
from producer_api.inference.native import PATH
from shared.settings import Settings
from shared.state.cards import TensorSpec
from shared.wire import outcomes
from shared.wire.messages import Fault, Request, Tensor
from shared.wire.outcomes import RequestError
from tests.fakes import LABELS, InMemoryQueue, card, demo_queue
from tests.unit.producer_api.asgi import Api, call

JPEG = b"\xff\xd8\xff\xe0" + bytes(64)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
ROW = bytes([2]) + bytes(47)  # one row of the toy imagenet: its first byte picks the label
GOOD_ID = re.compile(r"[0-9a-f]{24}\Z")


def _submitted(api: Api) -> Request:
    return api.queue.submitted[-1]


def test_raw_bytes(api: Api) -> None:
    answer = api.post("echo", b"hello")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json
    assert list(document) == ["id", "model", "version", "outputs", "timing"]
    assert (document["model"], document["version"]) == ("echo", "1")
    assert document["outputs"] == [{"name": "output", "datatype": "UINT8", "shape": [1, 5], "data": list(b"hello")}]
    assert set(document["timing"]) == {"queue_ms", "batch_wait_ms", "inference_ms", "total_ms", "batch_size"}
    assert GOOD_ID.match(document["id"])
    assert answer.headers["x-request-id"] == document["id"]
    request = _submitted(api)
    assert (request.body, request.content_type, request.inputs) == (b"hello", "application/octet-stream", None)
    assert request.ttl_ms == Settings().default_timeout_ms


def test_a_body_that_comes_in_one_piece_is_not_copied(api: Api) -> None:
    body = bytes(100_000)
    assert api.post("echo", body, headers=[("Accept", "application/msgpack")]).status == 200
    assert _submitted(api).body is body


def test_a_body_in_chunks(api: Api) -> None:
    assert api.post("echo", [b"he", b"", b"llo"]).json["outputs"][0]["data"] == list(b"hello")


@pytest.mark.parametrize("picture", [JPEG, PNG])
def test_pictures(api: Api, picture: bytes) -> None:
    kind = "image/jpeg" if picture is JPEG else "image/png"
    text = base64.b64encode(picture).decode()
    answers = [
        api.post("imagenet", picture, kind),
        api.json("imagenet", {"image_base64": text}),
        api.msgpack("imagenet", {"image": picture}),
        api.msgpack("imagenet", {"image_base64": text}),
    ]
    for answer, request in zip(answers, api.queue.submitted, strict=True):
        assert answer.status == 200, answer.body
        assert answer.json["predictions"][0]["label"] == LABELS[picture[0] % 4]
        assert "row" not in answer.json["predictions"][0]
        assert (request.content_type, request.body) == (kind, picture)


def test_a_picture_is_what_its_bytes_say(api: Api) -> None:
    assert api.post("imagenet", PNG, "image/jpeg").status == 200
    assert _submitted(api).content_type == "image/png"


def test_tensors_in_json_and_msgpack(api: Api) -> None:
    tensor = {"name": "image", "shape": [2, 4, 4, 3], "datatype": "UINT8", "data": list(ROW) * 2}
    packed = {**tensor, "data": ROW * 2}
    for answer in (
        api.json("imagenet", {"inputs": [tensor]}),
        api.msgpack("imagenet", {"inputs": [tensor]}),
        api.msgpack("imagenet", {"inputs": [packed]}),
    ):
        assert answer.status == 200, answer.body
        assert [(entry["row"], entry["label"]) for entry in answer.json["predictions"]] == [
            (0, "cat"),
            (0, "dog"),
            (1, "cat"),
            (1, "dog"),
        ]
        assert _submitted(api).inputs == (Tensor("image", "UINT8", (2, 4, 4, 3), ROW * 2),)


def test_rows_as_raw_bytes(api: Api) -> None:
    assert api.post("imagenet", ROW * 4).status == 200
    for body in (ROW * 5, ROW[:-1], ROW * 2 + b"x", b""):
        error = api.post("imagenet", body)
        assert (error.status, error.error["field"]) == (422, "body")


def test_answers_in_msgpack(api: Api) -> None:
    for accept in ("application/msgpack", "application/x-msgpack"):
        answer = api.post("echo", b"hello", headers=[("Accept", accept)])
        assert answer.headers["content-type"] == accept
        document = msgpack.unpackb(answer.body)
        assert document["outputs"] == [{"name": "output", "datatype": "UINT8", "shape": [1, 5], "data": b"hello"}]


def test_several_accept_headers_count_as_one(api: Api) -> None:
    accept = [("Accept", "text/html"), ("Accept", "application/msgpack;q=0.5")]
    assert api.post("echo", b"x", headers=accept).headers["content-type"] == "application/msgpack"


def test_options_in_the_query(api: Api) -> None:
    answer = api.post("imagenet", ROW, query="top_k=3&timeout_ms=60000&id=mine_1")
    assert len(answer.json["predictions"]) == 3
    assert answer.json["id"] == answer.headers["x-request-id"] == "mine_1"
    request = _submitted(api)
    assert (request.id, request.ttl_ms, dict(request.params)) == ("mine_1", 60_000, {"top_k": 3})


def test_options_in_parameters(api: Api) -> None:
    tensor = {"name": "input", "shape": [2], "datatype": "UINT8", "data": [1, 2]}
    options = {"top_k": 3, "timeout_ms": 500, "id": "mine_2"}
    assert api.json("echo", {"inputs": [tensor], "parameters": options}).json["id"] == "mine_2"
    request = _submitted(api)
    assert (request.id, request.ttl_ms, dict(request.params)) == ("mine_2", 500, {"top_k": 3})
    assert api.json("echo", {"inputs": [tensor], "parameters": None}).status == 200


def test_an_id_of_ones_own_is_answered_once(api: Api) -> None:
    first, second = (api.post("echo", body, query="id=mine") for body in (b"a", b"b"))
    assert first.json["outputs"] == second.json["outputs"]
    assert len(api.queue.submitted) == 1


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("topk=3", 400, "topk"),
        ("top_k=3&top_k=3", 400, "top_k"),
        ("top_k", 400, "query"),
        ("&&", 400, "query"),
        ("id=%ff", 400, "query"),
        ("&".join(f"a{n}=1" for n in range(50)), 400, "query"),
        ("top_k=0", 422, "top_k"),
        ("top_k=1001", 422, "top_k"),
        ("top_k=-1", 422, "top_k"),
        ("top_k=1.0", 422, "top_k"),
        ("top_k=", 422, "top_k"),
        ("top_k=" + "9" * 100, 422, "top_k"),
        ("top_k=%d9%a1", 422, "top_k"),
        ("timeout_ms=0", 422, "timeout_ms"),
        ("timeout_ms=60001", 422, "timeout_ms"),
        ("id=", 422, "id"),
        ("id=a:b", 422, "id"),
        ("id=" + "a" * 65, 422, "id"),
    ],
)
def test_queries_that_do_not_fit(api: Api, query: str, status: int, field: str) -> None:
    answer = api.post("echo", b"x", query=query)
    assert (answer.status, answer.error["field"]) == (status, field)
    assert not api.queue.submitted


_TENSOR: dict[str, Any] = {"name": "input", "shape": [2], "datatype": "UINT8", "data": [1, 2]}


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ([], "body"),
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [_TENSOR] * 65}, "inputs"),
        ({"inputs": None, "image_base64": None}, "inputs"),
        ({"inputs": [_TENSOR], "image_base64": "AAAA"}, "inputs"),
        ({"inputs": [{**_TENSOR, "shape": [-1]}]}, "inputs[0].shape[0]"),
        ({"inputs": [{**_TENSOR, "shape": [2**31]}]}, "inputs[0].shape[0]"),
        ({"inputs": [{**_TENSOR, "shape": [1] * 17}]}, "inputs[0].shape"),
        ({"inputs": [{**_TENSOR, "shape": "2"}]}, "inputs[0].shape"),
        ({"inputs": [{**_TENSOR, "extra": 1}]}, "inputs[0]"),
        ({"inputs": [{"name": "input"}]}, "inputs[0]"),
        ({"inputs": [_TENSOR], "more": 1}, "body"),
        ({"inputs": [_TENSOR], "parameters": {"top_k": 0}}, "parameters.top_k"),
        ({"inputs": [_TENSOR], "parameters": {"top_k": "3"}}, "parameters.top_k"),
        ({"inputs": [_TENSOR], "parameters": {"timeout_ms": 60001}}, "parameters.timeout_ms"),
        ({"inputs": [_TENSOR], "parameters": {"id": "a b"}}, "parameters.id"),
        ({"inputs": [_TENSOR], "parameters": {"topk": 1}}, "parameters"),
    ],
)
def test_documents_that_do_not_fit(api: Api, document: Any, field: str) -> None:
    for answer in (api.json("echo", document), api.msgpack("echo", document)):
        assert (answer.status, answer.error["code"], answer.error["field"]) == (422, "invalid_input", field)
    assert not api.queue.submitted


def test_an_id_must_match_to_its_end(api: Api) -> None:
    answer = api.json("echo", {"inputs": [_TENSOR], "parameters": {"id": "abc\n"}})
    assert answer.error["field"] == "parameters.id"


@pytest.mark.parametrize("text", ["", "AAA", "AA AA", "AAAA\n", "äAAA", "AAAA====", "R0lGODlh"])
def test_base64_that_is_no_picture(api: Api, text: str) -> None:
    answer = api.json("imagenet", {"image_base64": text})
    assert (answer.status, answer.error["field"]) == (422, "image_base64")


def test_pictures_that_are_none_or_not_taken(api: Api) -> None:
    assert api.post("imagenet", b"GIF89a", "image/jpeg").error["field"] == "body"
    assert api.post("imagenet", b"GIF89a", "image/gif").status == 415
    assert api.msgpack("imagenet", {"image": b"x"}).error["field"] == "image"
    assert api.msgpack("echo", {"image": JPEG}).error["field"] == "image"
    for kind in IMAGES:
        assert api.post("echo", JPEG, kind).status == 415


def test_options_of_documents_do_not_belong_into_the_query(api: Api) -> None:
    answer = api.post("echo", b"{}", "application/json", query="top_k=1")
    assert (answer.status, answer.error["field"]) == (400, "query")


def test_floats_that_are_not_finite_as_raw_bytes() -> None:
    queue = InMemoryQueue()
    queue.serve("m", card("m", [TensorSpec("x", "FP32", (2,))]), lambda request: Result(predictions=()))
    with Api(queue=queue) as api:
        assert api.post("m", bytes(8)).status == 200
        answer = api.post("m", bytes(4) + b"\x00\x00\xc0\x7f")
        assert (answer.status, answer.error["field"]) == (422, "body")


def test_free_dimensions_as_raw_bytes() -> None:
    queue = InMemoryQueue()
    queue.serve("m", card("m", [TensorSpec("x", "FP32", (-1, 3))]), lambda request: Result(predictions=()))
    two = card("two", [TensorSpec("x", "FP32", (3,)), TensorSpec("y", "FP32", (3,))])
    queue.serve("two", two, lambda request: Result(predictions=()))
    with Api(queue=queue) as api:
        assert api.post("m", bytes(24)).status == 200
        assert api.post("m", bytes(20)).error["field"] == "body"
        assert api.post("two", bytes(24)).error["field"] == "body"


def test_traceparent_is_passed_on_when_it_is_one(api: Api) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    api.post("echo", b"x", headers=[("traceparent", trace)])
    assert _submitted(api).traceparent == trace
    api.post("echo", b"x", headers=[("traceparent", "no")])
    assert _submitted(api).traceparent is None


def test_refused_before_anything_is_submitted(api: Api) -> None:
    cases = [
        (api.post("echo", b"x", headers=[("Accept", "text/html")]), 406, "not_acceptable"),
        (api.post("echo", b"x", None), 415, "unsupported_media_type"),
        (api.post("echo", b"x", "text/plain"), 415, "unsupported_media_type"),
        (api.post("echo", b"x", headers=[("Content-Encoding", "gzip")]), 415, "unsupported_media_type"),
        (api.post("nobody", b"x"), 404, "unknown_model"),
        (api.post("n" * 5000, b"x"), 404, "unknown_model"),
        (api.post("echo", b""), 422, "invalid_input"),
        (api.get("/v1/models/echo/predict"), 405, "method_not_allowed"),
        (api.get("/v1/models/echo/predict/"), 404, "not_found"),
        (api.get("/v3/models/echo/predict"), 404, "not_found"),
    ]
    for answer, status, code in cases:
        assert (answer.status, answer.error["code"]) == (status, code)
    assert not api.queue.submitted
    assert api.get("/v1/models/echo/predict").headers["allow"] == "POST"
    assert api.get("/v1/models/echo/predict", method="HEAD").status == 405


def test_the_lane_is_full() -> None:
    with Api(queue=demo_queue(lane_limit=1)) as api:
        api.queue.hold()
        kind, target = [("Content-Type", "application/octet-stream")], PATH.format(model="echo") + "?timeout_ms=1"
        answers = api.together(*(call(api.app, "POST", target, kind, b"x") for _ in range(3)))
        refused = [answer for answer in answers if answer.status == 429]
        assert len(refused) == 2
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert refused[0].error["code"] == "lane_full"


def test_no_answer_in_time_gives_the_id_to_ask_again_with(api: Api) -> None:
    api.queue.hold()
    answer = api.post("echo", b"x", query="timeout_ms=1&id=later")
    assert (answer.status, answer.error["code"], answer.error["id"]) == (504, "unknown_outcome", "later")
    assert answer.headers["x-request-id"] == "later"


def test_no_worker_and_no_redis(api: Api) -> None:
    api.queue.set_workers("echo", 0)
    answer = api.post("echo", b"x")
    assert (answer.status, answer.error["code"]) == (503, "no_worker")
    assert int(answer.headers["retry-after"]) >= 1
    api.queue.redis_ok = False
    for model in ("echo", "imagenet"):
        assert api.post(model, b"x").error["code"] == "queue_unavailable"


def test_a_model_that_nobody_described() -> None:
    queue = demo_queue()
    queue.serve("old", None, lambda request: Result())
    with Api(queue=queue) as api:
        assert api.post("old", b"x").error["code"] == "no_worker"


def test_too_many_requests_in_this_process() -> None:
    with Api(Settings(max_in_flight=1)) as api:
        api.queue.hold()
        kind, target = [("Content-Type", "application/octet-stream")], PATH.format(model="echo") + "?timeout_ms=1"
        answers = api.together(*(call(api.app, "POST", target, kind, b"x") for _ in range(3)))
        assert sorted(answer.status for answer in answers) == [503, 503, 504]
        assert api.metric("headrace_requests_in_flight") == 0


@pytest.mark.parametrize("outcome", [entry for entry in outcomes.ALL if entry.status >= 400])
def test_a_consumers_refusal_becomes_its_status(outcome: outcomes.Outcome) -> None:
    def refuse(request: Request) -> Result:
        raise RequestError(outcome, "A sentence.", field="inputs[0].data")

    queue = InMemoryQueue()
    queue.serve("m", card("m", [TensorSpec("x", "UINT8", (-1,))]), refuse)
    with Api(queue=queue) as api:
        answer = api.post("m", b"x")
        assert answer.status == outcome.status
        assert (answer.error["code"], answer.error["message"]) == (outcome.code, "A sentence.")
        assert ("retry-after" in answer.headers) is outcome.retry
        assert answer.error["id"] == answer.headers["x-request-id"]


def test_a_refusal_this_version_does_not_know() -> None:
    for code in ("brand_new", "ok"):
        assert from_fault(Fault(code, "What?"), "i").outcome is outcomes.INTERNAL


def test_a_fault_here_is_logged_and_not_shown(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*args: object, **kwargs: object) -> Any:
        raise ZeroDivisionError("secret")

    api.queue.begin = broken  # type: ignore[method-assign]
    answer = api.post("echo", b"x")
    assert (answer.status, answer.error["code"]) == (500, "internal")
    assert b"secret" not in answer.body
    assert "ZeroDivisionError: secret" in caplog.text


def test_warnings_ride_on_every_answer() -> None:
    queue = InMemoryQueue()
    warned = card("m", [TensorSpec("x", "UINT8", (-1,))], warnings=("The weights are random.",))
    queue.serve("m", warned, lambda request: Result(predictions=()))
    with Api(queue=queue) as api:
        assert api.post("m", b"x").json["warnings"] == ["The weights are random."]


def test_outputs_that_are_not_finite_are_null_in_json() -> None:
    data = bytes(4) + b"\x00\x00\xc0\x7f"
    outputs = (Tensor("y", "FP32", (1, 2), data), Tensor("z", "FP16", (1, 1), b"\x00\x7c"))
    queue = InMemoryQueue()
    queue.serve("m", card("m", [TensorSpec("x", "UINT8", (-1,))]), lambda request: Result(outputs=outputs))
    with Api(queue=queue) as api:
        assert [output["data"] for output in api.post("m", b"x").json["outputs"]] == [[0.0, None], [None]]


def test_bodies_over_the_limit() -> None:
    with Api(Settings(max_body_bytes=1024)) as api:
        assert api.post("echo", bytes(1024)).status == 200
        assert api.post("echo", [bytes(512), bytes(512)]).status == 200
        for body in (bytes(1025), [bytes(1024), b"x", b""], [bytes(1025)], [bytes(600)] * 3):
            answer = api.post("echo", body)
            assert (answer.status, answer.error["code"]) == (413, "body_too_large")
        assert len(api.queue.submitted) == 2
        assert api.metric("headrace_requests_total", model="echo", outcome="body_too_large") == 4


def test_a_body_that_does_not_arrive_in_time(api: Api) -> None:
    endpoint = next(route.endpoint for route in api.app.routes if route.path == PATH)  # type: ignore[attr-defined]
    endpoint.body_timeout_s = 0.0
    answer = api.post("echo", [b"a", None])
    assert (answer.status, answer.error["code"], answer.headers["connection"]) == (408, "request_timeout", "close")


def test_a_client_that_leaves_while_sending(api: Api) -> None:
    answer = api.together(_leaving(api))[0]
    assert answer.status == 0
    assert api.metric("headrace_requests_total", model="echo", outcome="client_closed") == 1
    assert api.metric("headrace_requests_in_flight") == 0


async def _leaving(api: Api) -> Any:
    kind = [("Content-Type", "application/octet-stream"), ("Content-Length", "10")]
    return await call(api.app, "POST", PATH.format(model="echo"), kind, [])


def test_an_idempotency_key_stands_for_one_request(api: Api) -> None:
    key = [("Idempotency-Key", "7f3c-1c1e")]
    first, second = (api.post("echo", b"hello", headers=key) for _ in range(2))
    assert (first.status, second.status) == (200, 200)
    assert first.json["outputs"] == second.json["outputs"]
    assert first.headers["x-request-id"] == second.headers["x-request-id"]
    assert len(api.queue.submitted) == 1
    for body, query in ((b"another", ""), (b"hello", "top_k=5")):
        refused = api.post("echo", body, headers=key, query=query)
        assert (refused.status, refused.error["code"]) == (422, "key_reused")
    assert api.post("echo", b"another", headers=[("Idempotency-Key", "7f3c-1c1f")]).status == 200


def test_a_repeat_under_the_same_key_may_have_more_time(api: Api) -> None:
    answers = [
        api.post("echo", b"hello", headers=[("Idempotency-Key", "patience")], query=query)
        for query in ("timeout_ms=50", "timeout_ms=5000", "")
    ]
    assert [(answer.status, answer.json["id"]) for answer in answers] == [(200, answers[0].json["id"])] * 3
    assert len(api.queue.submitted) == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "\x7f", "\xe9"])
def test_an_idempotency_key_that_is_none_is_refused(api: Api, key: str) -> None:
    answer = api.post("echo", b"x", headers=[("Idempotency-Key", key)])
    assert (answer.status, answer.error["code"], answer.error["field"]) == (400, "malformed", "Idempotency-Key")
    assert not api.queue.submitted


def test_an_id_and_an_idempotency_key_are_too_much(api: Api) -> None:
    answer = api.post("echo", b"x", headers=[("Idempotency-Key", "a")], query="id=b")
    assert (answer.status, answer.error["field"]) == (400, "Idempotency-Key")
    assert not api.queue.submitted
