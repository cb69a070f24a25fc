"""The protocol over REST with an in-memory queue: what a running stack does not come to by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.api_keys import digest_of
from shared.settings import Settings
from shared.state.cards import PREDICTIONS, TENSORS, TensorSpec
from shared.wire.messages import Request
from shared.wire.outcomes import BY_CODE, CRASHED, EXPIRED, LANE_FULL, RequestError
from tests.fakes import CLASSIFIER, classify
from tests.unit.producer_api.asgi import Api, call

BODY = json.dumps({"inputs": [{"name": "input", "shape": [1, 1], "datatype": "UINT8", "data": [1]}]}).encode()
PIXELS = {"name": "image", "shape": [1, 4, 4, 3], "datatype": "UINT8", "data": [0] * 48}
LOGITS = (TensorSpec("logits", "FP32", (4,)),)


def infer(api: Api, model: str, body: bytes = BODY, version: str = "") -> Any:
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
    return api.together(call(api.app, "POST", f"{path}/infer", (), body))[0]


def test_while_only_consumers_of_an_older_version_serve_a_classifier(api: Api) -> None:
    old = msgspec.structs.replace(CLASSIFIER, name="old", outputs=LOGITS, family="timm")
    api.queue.serve("old", old, classify)
    answer = infer(api, "old", json.dumps({"inputs": [PIXELS]}).encode())
    assert (answer.status, "older version" in answer.json["error"]) == (503, True)
    assert answer.headers["retry-after"] == "1"
    classes = [{"name": "logits", "parameters": {"classification": 1}}]
    answer = infer(api, "old", json.dumps({"inputs": [PIXELS], "outputs": classes}).encode())
    assert (answer.status, answer.json["outputs"][0]["data"]) == (200, ["0.500000:0:tench"])


def test_while_both_versions_serve_it_an_older_ones_answer_is_told(api: Api) -> None:
    mixed = msgspec.structs.replace(
        CLASSIFIER, name="mixed", outputs=LOGITS, family="timm", answers=(PREDICTIONS, TENSORS)
    )
    api.queue.serve("mixed", mixed, classify)  # which knows nothing of tensors
    answer = infer(api, "mixed", json.dumps({"inputs": [PIXELS]}).encode())
    assert (answer.status, "older version" in answer.json["error"]) == (503, True)


@pytest.mark.parametrize(("outcome", "status"), [(LANE_FULL, 503), (EXPIRED, 503), (CRASHED, 500)])
def test_statuses_are_the_protocols(api: Api, outcome: Any, status: int) -> None:
    def refuse(request: Request) -> Any:
        raise RequestError(BY_CODE[outcome.code], "Not now.")

    api.queue.serve("refusing", msgspec.structs.replace(CLASSIFIER, name="refusing", labels=None), refuse)
    answer = infer(api, "refusing", json.dumps({"inputs": [PIXELS]}).encode())
    assert (answer.status, answer.json) == (status, {"error": "Not now."})


def test_versions(api: Api) -> None:
    api.queue.serve("named", msgspec.structs.replace(CLASSIFIER, name="named", version="2026-spring"), classify)
    assert api.get("/v2/models/named").json["versions"] == ["1"]
    for version, status in (("1", 200), ("2026-spring", 200), ("2", 404)):
        assert api.get(f"/v2/models/named/versions/{version}/ready").status == status
    assert infer(api, "echo", version="1").status == 200
    assert infer(api, "echo", version="7").status == 404


def test_a_model_without_a_consumer(api: Api) -> None:
    api.queue.set_workers("echo", 0)
    assert infer(api, "echo").status == 503
    assert api.get("/v2/models/echo/ready").status == 503
    index = api.get("/v2/repository/index", method="POST").json
    assert {"name": "echo", "version": "1", "state": "UNAVAILABLE", "reason": "away"} in index


def test_api_keys(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[keys.alice]\nsha256 = "{digest_of(b"hr_alice").hex()}"\n')
    keys.chmod(0o600)
    key = [("Authorization", "Bearer hr_alice")]
    with Api(Settings(keys_file=str(keys))) as api:
        for path in ("/v2", "/v2/models/echo", "/v2/models/stats", "/v2/nothing"):
            answer = api.get(path)
            assert (answer.status, list(answer.json), answer.headers["www-authenticate"]) == (401, ["error"], "Bearer")
        assert infer(api, "echo").status == 401
        assert api.get("/v2/models/echo", key).status == 200
        for path in ("/v2/health/live", "/v2/health/ready", "/ping"):
            assert api.get(path).status == 200
