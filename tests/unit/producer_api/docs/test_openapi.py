"""The OpenAPI document against the application, and the page made from it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

from producer_api.inference.negotiation import IMAGES, JSON, MSGPACK, OFFERED, RAW, X_MSGPACK
from producer_api.later.preferences import DURATION_PATTERN, duration_ms
from producer_api.store.reference import MEDIA_TYPE
from shared.wire.outcomes import ALL, RequestError
from tests.unit.producer_api.asgi import Api, Response, call


@pytest.fixture
def document(api: Api) -> Any:
    """The document as clients get it."""
    return api.get("/openapi.json").json


def _routes(api: Api) -> dict[str, set[str]]:
    return {
        route.path: {method.lower() for method in route.methods or () if method != "HEAD"}
        for route in api.app.routes
        if isinstance(route, Route) and route.include_in_schema
    }


def _operations(document: Any) -> dict[str, set[str]]:
    return {path: set(item) - {"parameters"} for path, item in document["paths"].items()}


def test_every_route_is_in_the_document_and_no_other(api: Api, document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    assert _operations(document) == _routes(api)


def test_schemas_are_valid_and_references_lead_somewhere(document: Any) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = set(document["components"]["schemas"])
    references = set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document)))
    assert references <= names
    assert len(re.findall(r"'\$ref'", str(document))) == len(
        re.findall(r"'\$ref': '#/components/schemas/\w+'", str(document))
    )


def test_path_parameters_are_declared_and_operations_are_named(document: Any) -> None:
    names = []
    for path, item in document["paths"].items():
        declared = {parameter["name"] for parameter in item.get("parameters", ())}
        assert declared == set(re.findall(r"{(\w+)}", path))
        names += [operation["operationId"] for method, operation in item.items() if method != "parameters"]
    assert len(names) == len(set(names))


def test_every_outcome_of_predict_is_documented(document: Any) -> None:
    responses = document["paths"]["/v1/models/{model}/predict"]["post"]["responses"]
    elsewhere = {
        "ok",
        "not_found",
        "method_not_allowed",
        "client_closed",
        "unknown_request",
        "already_answered",
        "result_gone",
        "unsupported",
    }
    elsewhere |= {
        "forbidden",
        "unknown_batch",
        "batch_ended",
        "too_many_batches",
        "no_result_store",
        "context_length_exceeded",
    }
    for outcome in ALL:
        if outcome.code not in elsewhere:
            assert f"`{outcome.code}`" in responses[str(outcome.status)]["description"]
            assert ("headers" in responses[str(outcome.status)]) >= outcome.retry


def test_bodies_and_answers_are_of_the_kinds_that_are_taken_and_offered(document: Any) -> None:
    predict = document["paths"]["/v1/models/{model}/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {*IMAGES, RAW, JSON, MSGPACK, X_MSGPACK, MEDIA_TYPE}
    assert set(predict["responses"]["200"]["content"]) == set(OFFERED)


def test_every_place_of_the_template_is_filled(document: Any) -> None:
    assert "${" not in str(document)
    assert "$errors" not in str(document)


def _check(document: Any, path: str, method: str, answer: Response) -> None:
    """Hold a real answer against what the document says of it."""
    described = document["paths"][path][method]["responses"][str(answer.status)]
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = described["content"][media_type]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    if media_type == "application/json":
        validator.validate(answer.json)
        reference = schema.get("$ref")
        if reference is not None:
            known = document["components"]["schemas"][reference.rpartition("/")[2]]
            assert set(answer.json) <= set(known["properties"])
    for name in described.get("headers", {}):
        assert name.lower() in answer.headers


def test_real_answers_are_as_documented(api: Api, document: Any) -> None:
    predict = "/v1/models/{model}/predict"
    for answer in (
        api.post("echo", b"hello"),
        api.post("imagenet", bytes(96)),
        api.post("echo", b"x", headers=[("Accept", "text/html")]),
        api.post("echo", b"x", "text/plain"),
        api.post("nobody", b"x"),
        api.post("echo", b""),
        api.post("echo", b"{", "application/json"),
    ):
        _check(document, predict, "post", answer)
    for path in _routes(api):
        if "get" in document["paths"][path]:
            _check(document, path, "get", api.get(path.format(model="imagenet", id="nothing", version="1")))
    _check(document, "/v1/models/{model}", "get", api.get("/v1/models/nobody"))
    for model in ("echo", "imagenet"):
        api.queue.set_workers(model, 0)
    _check(document, "/readyz", "get", api.get("/readyz"))
    _check(document, predict, "post", api.post("echo", b"x"))
    api.queue.redis_ok = False
    _check(document, predict, "post", api.post("echo", b"x"))


def test_the_example_of_the_document_works(api: Api, document: Any) -> None:
    body = document["paths"]["/v1/models/{model}/predict"]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    schema = {"$ref": "#/components/schemas/PredictRequest", "components": document["components"]}
    Draft202012Validator(schema).validate(example)
    assert api.json("echo", example).status == 200


class _Page(HTMLParser):
    """Collects what a page loads, the ids it has and the ids it leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one tag."""
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        if tag in ("script", "img", "link", "iframe") and (source := found.get("src") or found.get("href")):
            self.loaded.append(source)
        if tag == "a":
            self.links.append(found.get("href") or "")


def test_the_page_shows_every_route_and_loads_nothing(api: Api, document: Any) -> None:
    answer = api.get("/docs")
    text = answer.body.decode()
    page = _Page()
    page.feed(text)
    assert page.loaded == ["data:,"]
    assert not re.search(r"https?://", text)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for path in document["paths"]:
        assert f"<code>{path}</code>" in text
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "{{" not in text


def test_asking_and_cancelling_by_id_are_as_documented(api: Api, document: Any) -> None:
    path = "/v1/models/{model}/requests/{id}"
    kind = [("Content-Type", "application/octet-stream")]
    assert api.together(call(api.app, "POST", "/v1/models/echo/predict?id=done", kind, b"x"))[0].status == 200
    for method, target, status in (
        ("GET", "echo/requests/done", 200),
        ("DELETE", "echo/requests/done", 409),
        ("GET", "echo/requests/nothing", 404),
        ("DELETE", "echo/requests/nothing", 404),
        ("GET", "nobody/requests/done", 404),
        ("GET", "echo/requests/no%20name", 400),
        ("DELETE", "echo/requests/no%20name", 400),
    ):
        (answer,) = api.together(call(api.app, method, f"/v1/models/{target}"))
        assert answer.status == status
        _check(document, path, method.lower(), answer)


def test_durations_are_described_as_they_are_taken() -> None:
    for unit, most in (("", 604_800), ("s", 604_800), ("m", 10_080), ("h", 168), ("d", 7)):
        for number in (*range(301), *range(most - 900, most + 900)):
            text = f"{number}{unit}"
            try:
                taken = duration_ms(text.encode()) > 0
            except RequestError:
                taken = False
            assert (re.search(DURATION_PATTERN, text) is not None) is taken, text
    for text in ("", "07d", "1w", "1 d", "-1s", "1.5h", "9999999999"):
        assert re.search(DURATION_PATTERN, text) is None
        with pytest.raises(RequestError):
            duration_ms(text.encode())


def test_what_is_wrong_with_a_head_has_one_form_everywhere(document: Any) -> None:
    for item in document["paths"].values():
        for operation in (one for name, one in item.items() if name != "parameters"):
            for status in ("421", "431"):
                shape = operation["responses"][status]["content"]["application/json"]["schema"]
                assert shape == {"$ref": "#/components/schemas/ErrorResponse"}
