"""Requests of a model with a cache, through the whole front end: what runs, what does not, and who gets what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from producer_api.caching.equal_requests import Found
from producer_api.inference.native import PATH
from shared.api_keys import digest_of
from shared.settings import Settings
from shared.state.cards import CacheSettings
from tests.fakes import CLASSIFIER, ECHO, InMemoryQueue, classify, echo
from tests.helpers import eventually_async
from tests.unit.producer_api.asgi import Api, Response, call

KEPT = CacheSettings(ttl_s=60.0, limit_bytes=1 << 20)
ECHO_PATH = PATH.format(model="echo")


def queue_of(cache: CacheSettings | None = KEPT) -> InMemoryQueue:
    queue = InMemoryQueue()
    queue.serve("echo", msgspec.structs.replace(ECHO, cache=cache), echo)
    queue.serve("imagenet", msgspec.structs.replace(CLASSIFIER, cache=cache), classify)
    return queue


@pytest.fixture
def kept() -> Iterator[Api]:
    with Api(queue=queue_of()) as api:
        yield api


def of(api: Api, *cache_control: str, body: bytes = b"hello", model: str = "echo") -> Response:
    return api.post(model, body, headers=[("Cache-Control", one) for one in cache_control])


def status_of(response: Response) -> str:
    return response.headers["cache-status"]


def test_an_equal_request_is_answered_without_the_queue(kept: Api) -> None:
    first, second = of(kept), of(kept)
    assert len(kept.queue.submitted) == 1
    assert (status_of(first), status_of(second)) == ("headrace; fwd=miss", "headrace; hit; ttl=59")
    assert first.json["outputs"] == second.json["outputs"]
    assert first.json["id"] != second.json["id"] == second.headers["x-request-id"]
    timing = second.json["timing"]
    assert (timing["queue_ms"], timing["inference_ms"], timing["batch_size"]) == (0, 0, 0)
    assert timing["total_ms"] > 0


def test_the_form_of_the_answer_is_no_part_of_the_question(kept: Api) -> None:
    of(kept)
    other = kept.post("echo", b"hello", headers=[("Accept", "application/msgpack")])
    assert (other.headers["content-type"], status_of(other)[:13]) == ("application/msgpack", "headrace; hit")


def test_another_input_or_option_is_another_question(kept: Api) -> None:
    row = bytes([2]) + bytes(47)
    of(kept)
    assert status_of(of(kept, body=b"other")) == "headrace; fwd=miss"
    assert status_of(kept.post("imagenet", row, query="top_k=1")) == "headrace; fwd=miss"
    answer = kept.post("imagenet", row, query="top_k=2")
    assert (status_of(answer), len(answer.json["predictions"])) == ("headrace; fwd=miss", 2)


def test_without_a_cache_nothing_is_kept_and_nothing_said(api: Api) -> None:
    answers = [of(api), of(api)]
    assert len(api.queue.submitted) == 2
    assert not any("cache-status" in one.headers for one in answers)


def test_a_client_can_ask_for_something_fresh(kept: Api) -> None:
    of(kept)
    assert status_of(of(kept, "no-cache")) == "headrace; fwd=miss"
    assert status_of(of(kept, "max-age=0")) == "headrace; fwd=miss"
    assert status_of(of(kept, "no-store")) == "headrace; fwd=bypass"
    assert len(kept.queue.submitted) == 4
    assert status_of(of(kept))[:13] == "headrace; hit"


def test_what_must_not_be_stored_is_not(kept: Api) -> None:
    of(kept, "no-store")
    assert status_of(of(kept)) == "headrace; fwd=miss"


def test_a_clients_own_id_is_asked_for_in_the_queue(kept: Api) -> None:
    of(kept)
    own = kept.post("echo", b"hello", headers=[("Idempotency-Key", "mine")])
    assert "cache-status" not in own.headers
    assert len(kept.queue.submitted) == 2


def test_errors_are_not_kept(kept: Api) -> None:
    def fails(request: Any) -> Any:
        raise ValueError("no")

    kept.queue.serve("echo", msgspec.structs.replace(ECHO, cache=KEPT), fails)
    assert of(kept).status >= 400
    kept.queue.serve("echo", msgspec.structs.replace(ECHO, cache=KEPT), echo)
    answer = of(kept)
    assert (answer.status, status_of(answer)) == (200, "headrace; fwd=miss")


@pytest.mark.parametrize("change", [{"version": "2"}, {"precision": "fp16"}])
def test_another_version_or_precision_answers_for_itself(kept: Api, change: dict[str, str]) -> None:
    of(kept)
    kept.queue.serve("echo", msgspec.structs.replace(ECHO, cache=KEPT, **change), echo)
    assert status_of(of(kept)) == "headrace; fwd=miss"


def test_while_two_versions_live_what_the_older_one_answers_is_not_kept_for_the_newer(kept: Api) -> None:
    # The card is that of version 2, and a consumer of version 1 answers.
    kept.queue.hold()

    async def ask() -> tuple[Response, Response]:
        first = asyncio.create_task(call(kept.app, "POST", ECHO_PATH, OCTETS, b"hello"))
        await eventually_async(lambda: len(kept.queue.submitted) == 1)
        kept.queue.set_card("echo", msgspec.structs.replace(ECHO, cache=KEPT, version="2"))
        second = asyncio.create_task(call(kept.app, "POST", ECHO_PATH, OCTETS, b"hello"))
        await eventually_async(lambda: len(kept.queue.submitted) == 2)
        kept.queue.release()
        return await first, await second

    first, second = kept._runner.run(ask())
    assert (first.status, second.status) == (200, 200)
    assert len(kept.queue.submitted) == 2  # the second one did not join


OCTETS = [("Content-Type", "application/octet-stream")]


def test_those_that_come_at_the_same_time_are_one_inference(kept: Api) -> None:
    kept.queue.hold()

    async def ask() -> list[Response]:
        tasks = [asyncio.create_task(call(kept.app, "POST", ECHO_PATH, OCTETS, b"same")) for _ in range(8)]
        model = kept.app.express.context.equal_requests.models
        await eventually_async(lambda: "echo" in model() and model()["echo"].counts[Found.JOINED] == 7)
        kept.queue.release()
        return list(await asyncio.gather(*tasks))

    answers = kept._runner.run(ask())
    assert len(kept.queue.submitted) == 1
    assert sorted(map(status_of, answers)) == ["headrace; fwd=miss"] + 7 * ["headrace; fwd=miss; collapsed"]
    assert len({one.json["id"] for one in answers}) == 8
    assert all(one.json["id"] == one.headers["x-request-id"] for one in answers)


def test_metrics_say_how_often_it_helped(kept: Api) -> None:
    of(kept), of(kept), of(kept, "no-store")
    text = kept.get("/metrics").body.decode()
    for result, count in (("hit", 1), ("miss", 1), ("passed", 1), ("joined", 0)):
        assert f'headrace_cache_requests_total{{model="echo",result="{result}"}} {count}.0' in text
    assert 'headrace_cache_entries{model="echo"} 1.0' in text


KEYS = "".join(f'[keys.{name}]\nsha256 = "{digest_of(name.encode()).hex()}"\n' for name in ("alice", "bob"))


@pytest.mark.parametrize(("scope", "inferences"), [("key", 2), ("all", 1)])
def test_tenants_get_each_others_answers_only_if_that_was_said(tmp_path: Any, scope: str, inferences: int) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(KEYS)
    queue = queue_of(CacheSettings(60.0, 1 << 20, scope))
    with Api(Settings(keys_file=str(keys)), queue) as api:
        for name in ("alice", "bob", "alice"):
            answer = api.post("echo", b"hello", headers=[("Authorization", f"Bearer {name}")])
            assert answer.status == 200, answer.body
        assert len(queue.submitted) == inferences
