"""The whole way of a request, on each real server: front end, stream, batch, reply."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import pytest

from shared import keys
from shared.redis.client import connect
from shared.settings import RUNTIMES
from tests.children import ROOT
from tests.e2e.stack import Stack, call

PHOTOS = ROOT / "examples" / "photos"
LABELS = {"cat": "Egyptian cat", "coffee": "espresso", "rocket": "missile"}


@pytest.fixture(scope="module", params=["valkey", "redis7"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Echoes on each server. The models keep their own names, since a server has one such stack."""
    url = request.getfixturevalue(f"{request.param}_url")
    with Stack(url, ROOT / "models.toml") as stack:
        stack.start_front_end()
        stack.start_consumer("echo")
        stack.wait("echo")
        stack.redis_url = url  # type: ignore[attr-defined]
        yield stack


@pytest.fixture(scope="module")
def photos(valkey_url: str) -> Iterator[Stack]:
    """Photographs on one server: to servers a network's requests and answers are bytes like those of an echo."""
    with Stack(valkey_url, ROOT / "models.toml") as stack:
        stack.start_front_end()
        stack.start_consumer("imagenet")
        stack.wait("imagenet")
        stack.redis_url = valkey_url  # type: ignore[attr-defined]
        yield stack


@pytest.mark.soak  # one photograph is in tests/e2e/headrace/test_up.py
@pytest.mark.parametrize("photo", LABELS)
def test_a_photograph_comes_back_with_its_label(photos: Stack, photo: str) -> None:
    answer = photos.predict("imagenet", (PHOTOS / f"{photo}.jpg").read_bytes(), "image/jpeg")
    assert answer.status == 200, answer.body
    assert answer.body["predictions"][0]["label"] == LABELS[photo]
    assert answer.body["timing"]["batch_size"] >= 1


@pytest.mark.soak  # with other models in tests/contract/consumer
def test_the_direct_producer_example_names_the_photograph(photos: Stack) -> None:
    command = [sys.executable, "examples/direct_producer.py", str(PHOTOS / "coffee.jpg")]
    environment = {"HEADRACE_REDIS_URL": photos.redis_url, "PATH": ""}  # type: ignore[attr-defined]
    shown = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=30)
    assert "espresso" in shown.stdout


@pytest.mark.soak  # broken pictures are in tests/fault/producer_api/test_bad_clients.py
def test_batchmates_of_a_broken_picture_are_answered_right(photos: Stack) -> None:
    photo = (PHOTOS / "cat.jpg").read_bytes()
    bodies = [photo, photo[: len(photo) // 2], photo, photo[:40] + bytes(2000)]
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: photos.predict("imagenet", body, "image/jpeg"), bodies))
    assert [answer.status for answer in answers] == [200, 422, 200, 422]
    assert answers[1].body["error"]["code"] == "invalid_input"
    for answer in (answers[0], answers[2]):
        assert answer.body["predictions"][0]["label"] == "Egyptian cat"


def test_everyone_gets_their_own_bytes_back(stack: Stack) -> None:
    bodies = [f"request {index} ".encode() * (1 + index % 7) for index in range(200)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda body: stack.predict("echo", body), bodies))
    assert [bytes(answer.body["outputs"][0]["data"]) for answer in answers] == bodies


@pytest.mark.parametrize("size", [1, 16 * 1024 - 200, 16 * 1024, 300_000])
def test_bodies_of_every_size_come_back(stack: Stack, size: int) -> None:
    """Large messages take another way into the stream, and large replies are not copied into the hint."""
    body = bytes(index % 251 for index in range(size))
    answer = stack.predict("echo", body)
    assert answer.status == 200, answer.body
    assert bytes(answer.body["outputs"][0]["data"]) == body


def test_asking_again_with_the_same_id_gives_the_stored_answer(stack: Stack) -> None:
    first = stack.predict("echo", b"first", query="?id=again-1")
    second = stack.predict("echo", b"second", query="?id=again-1")
    assert first.body["outputs"] == second.body["outputs"]
    large = bytes(20_000)
    assert stack.predict("echo", large, query="?id=again-2").status == 200
    assert len(stack.predict("echo", large, query="?id=again-2").body["outputs"][0]["data"]) == len(large)


@pytest.mark.soak  # with other models in tests/e2e/models/test_onnx_page.py
def test_several_rows_in_one_request_are_answered_together(photos: Stack) -> None:
    rows = bytes(224 * 224 * 3) + bytes([255]) * (224 * 224 * 3)
    answer = photos.predict("imagenet", rows, query="?top_k=2")
    assert [prediction["row"] for prediction in answer.body["predictions"]] == [0, 0, 1, 1]


def test_json_and_msgpack_say_the_same(stack: Stack) -> None:
    tensor = {"name": "input", "shape": [3], "datatype": "UINT8", "data": [1, 2, 3]}
    as_json = stack.predict("echo", json.dumps({"inputs": [tensor]}).encode(), "application/json")
    packed = msgpack.packb({"inputs": [{**tensor, "data": bytes([1, 2, 3])}]})
    as_msgpack = stack.predict("echo", packed, "application/msgpack")
    assert as_json.body["outputs"] == as_msgpack.body["outputs"]


def test_memory_stays_flat(stack: Stack) -> None:
    """Delivered replies are deleted with the next admission, the reply stream is trimmed, entries are removed."""
    with connect(stack.redis_url) as redis:  # type: ignore[attr-defined]
        before = redis.dbsize()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda _: stack.predict("echo", b"x"), range(1000)))
        after = redis.dbsize()
        hints = [redis.xlen(key) for key in redis.keys("hr:{echo}:rs:default:fe-*")]
        assert redis.xlen(keys.work("echo", keys.DEFAULT_LANE)) == 0
    assert after - before < 100
    assert max(hints) < 100


@pytest.mark.soak
def test_the_card_tells_what_runs(photos: Stack) -> None:
    card = call(f"{photos.url}/v1/models/imagenet").body
    assert card["inputs"][0]["shape"] == [224, 224, 3]
    assert card["precision"] in ("fp32", "bf16")
    assert card["precision_reason"]
    assert card["runtime"] in RUNTIMES
    assert len(card["labels"]) == 1000
    assert card["workers"] == 1
    assert call(f"{photos.url}/readyz").status == 200


def test_unknown_models_are_named(stack: Stack) -> None:
    answer = stack.predict("nothing", b"x")
    assert (answer.status, answer.body["error"]["code"]) == (404, "unknown_model")


def test_a_model_of_ones_own_is_served(stack: Stack, tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[models.mine]\nfamily = "python"\nentry = "examples.custom_model:create"\n')
    with Stack(stack.redis_url, models) as own:  # type: ignore[attr-defined]
        own.start_consumer("mine")
        own.url = stack.url
        own.wait("mine")
        card = call(f"{stack.url}/v1/models/mine").body
        assert card["family"] == "python"
