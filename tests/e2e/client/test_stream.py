"""Requests straight onto the queue of a running stack; and that both ways give the same answers."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from headrace.client import Answer, Client, HeadraceError, Stream
from headrace.redis.acl import producer_rule
from shared.redis.client import connect
from shared.redis.embedded import free_port
from tests.children import ROOT
from tests.e2e.stack import Stack

PHOTO = ROOT / "examples/photos/cat.jpg"

Ask = Callable[[Client | Stream], Answer]

REQUESTS: dict[str, Ask] = {
    "text": lambda one: one.predict("client-moods", "Hello!"),
    "top_k": lambda one: one.predict("client-moods", "Hello!", top_k=1),
    "texts": lambda one: one.predict("client-moods", inputs={"text": ["a", "b!"]}),
    "one row": lambda one: one.predict("client-sums", inputs={"numbers": [1.0, 2.0, 3.0]}),
    "rows": lambda one: one.predict("client-sums", inputs={"numbers": np.ones((4, 3), np.float32)}),
    "raw": lambda one: one.predict("client-echo", b"bytes"),
    "large": lambda one: one.predict("client-echo", b"x" * 300_000),
    "photo": lambda one: one.predict("client-photos", PHOTO),
    "pixels": lambda one: one.predict("client-photos", inputs={"input": np.zeros((224, 224, 3), np.uint8)}),
    "wrong shape": lambda one: one.predict("client-sums", inputs={"numbers": [1.0]}),
    "wrong datatype": lambda one: one.predict("client-sums", inputs={"numbers": [1, 2, 3]}),
    "wrong name": lambda one: one.predict("client-sums", inputs={"figures": [1.0, 2.0, 3.0]}),
    "too many rows": lambda one: one.predict("client-sums", inputs={"numbers": np.ones((100, 3), np.float32)}),
    "no picture": lambda one: one.predict("client-photos", b"no", content_type="image/jpeg"),
    "content type": lambda one: one.predict("client-moods", b"no", content_type="image/jpeg"),
    "top_k out of range": lambda one: one.predict("client-moods", "x", top_k=5000),
}


def seen(ask: Ask, way: Client | Stream) -> Any:
    try:
        answer = ask(way)
    except HeadraceError as error:
        return error.code, error.status
    outputs = {name: (array.dtype, array.tolist()) for name, array in answer.outputs.items()}
    return answer.model, answer.version, list(answer.predictions), outputs, list(answer.warnings)


@pytest.mark.parametrize("name", REQUESTS)
def test_both_ways_give_the_same_answer(name: str, client: Client, stream: Stream) -> None:
    assert seen(REQUESTS[name], stream) == seen(REQUESTS[name], client)


def test_hundreds_at_once_share_batches(stream: Stream) -> None:
    waiting = [stream.submit("client-echo", b"%d" % number) for number in range(600)]
    answers = [one.result(30) for one in waiting]
    assert [one.outputs["output"].tobytes() for one in answers] == [b"%d" % number for number in range(600)]
    assert max(one.timing.batch_size for one in answers) > 1


def test_threads_share_it(stream: Stream) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: stream.predict("client-echo", b"%d" % number), range(40)))
    assert [one.outputs["output"].tobytes() for one in answers] == [b"%d" % number for number in range(40)]


def test_the_same_id_runs_once(stream: Stream) -> None:
    name = uuid.uuid4().hex
    waiting = [stream.submit("client-echo", b"one", request_id=name) for _ in range(2)]
    first, second = (one.result(30) for one in waiting)
    assert first.id == second.id == name
    assert first.outputs["output"].tobytes() == second.outputs["output"].tobytes() == b"one"


def test_a_reply_without_a_hint_is_found(stream: Stream, valkey_url: str) -> None:
    stream.predict("client-echo", b"first")
    instance = stream._replies["client-echo"].instance
    future = stream.submit("client-echo", b"second")
    with connect(valkey_url) as redis:
        redis.delete(f"hr:{{client-echo}}:rs:default:{instance}")
    assert future.result(30).outputs["output"].tobytes() == b"second"


def test_a_model_or_lane_that_nobody_serves_is_named(stream: Stream, valkey_url: str) -> None:
    with pytest.raises(HeadraceError, match="No consumer has served model 'client-nobody'") as caught:
        stream.predict("client-nobody", b"")
    assert (caught.value.code, caught.value.status) == ("no_worker", 503)
    with Stream(valkey_url, lane="nowhere") as other, pytest.raises(HeadraceError, match="lane 'nowhere'"):
        other.predict("client-echo", b"")


def test_no_answer_is_an_error_in_time(stream: Stream) -> None:
    with pytest.raises(HeadraceError) as caught:
        stream.predict("client-gone", b"", timeout_s=0.2)
    assert caught.value.code in ("unknown_outcome", "no_worker", "expired")


def test_no_server_is_an_error() -> None:
    with Stream(f"redis://127.0.0.1:{free_port()}") as nobody, pytest.raises(HeadraceError) as caught:
        nobody.predict("client-echo", b"")
    assert (caught.value.code, caught.value.status) == ("queue_unavailable", 503)


def test_what_makes_no_sense_is_refused(stream: Stream, valkey_url: str) -> None:
    with pytest.raises(ValueError, match="The address cannot be used"):
        Stream("http://127.0.0.1:6379")
    with pytest.raises(ValueError, match="in_flight must be at least 1, not 0"):
        Stream(valkey_url, in_flight=0)
    with pytest.raises(ValueError, match="The lane"):
        Stream(valkey_url, lane="a b")
    with pytest.raises(ValueError, match="timeout_s must be above 0"):
        stream.predict("client-echo", b"", timeout_s=0)


def test_closing_ends_what_waits(valkey_url: str, stream: Stream) -> None:
    with Stream(valkey_url) as other:
        other.predict("client-echo", b"")
    with pytest.raises(ValueError, match="is closed"):
        other.predict("client-echo", b"")


def test_the_rights_of_a_direct_producer_suffice(stack: Stack, valkey_url: str) -> None:
    user = f"client-{uuid.uuid4().hex[:8]}"
    line = producer_rule(user, "client-echo", "default", ">secret")
    with connect(valkey_url) as redis:
        redis.execute_command("ACL", "SETUSER", *re.findall(r"\([^)]*\)|\S+", line)[1:])
        try:
            with Stream(valkey_url.replace("redis://", f"redis://{user}:secret@")) as limited:
                assert limited.predict("client-echo", b"x" * 20_000).outputs["output"].size == 20_000
                with pytest.raises(HeadraceError) as caught:
                    limited.predict("client-moods", "not mine")
            assert caught.value.code == "queue_unavailable"
        finally:
            redis.execute_command("ACL", "DELUSER", user)
