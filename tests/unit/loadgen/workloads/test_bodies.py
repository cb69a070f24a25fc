"""The texts of a workload: the same for everybody with the same seed, and as long as they are to be."""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

import msgpack
import pytest

from loadgen.errors import LoadgenError
from loadgen.workloads.bodies import make_bodies, whole_answer_body
from loadgen.workloads.spec import Workload, make_workload


def documents(workload: Workload) -> list[Any]:
    return [json.loads(body.data) for body in make_bodies(workload, "m")]


def test_the_same_seed_makes_the_same_bytes() -> None:
    for kind in ("chat", "embed"):
        one, same, other = (make_bodies(make_workload({"kind": kind, "seed": seed}), "m") for seed in (1, 1, 2))
        assert one == same != other
        assert len({body.data for body in one}) == 256


def test_lengths_are_log_normal_and_cut() -> None:
    workload = make_workload({"kind": "chat", "distinct": 4000, "input_words": 50, "input_sigma": 0.5})
    asked = documents(workload)
    words = [math.log(len(one["messages"][0]["content"].split())) for one in asked]
    assert abs(statistics.median(words) - math.log(50)) < 0.05
    assert abs(statistics.stdev(words) - 0.5) < 0.05
    tokens = [one["max_tokens"] for one in asked]
    assert abs(statistics.median(tokens) - 32) <= 2
    assert 1 <= min(tokens) <= max(tokens) == 128
    same = [one["max_tokens"] for one in documents(make_workload({"kind": "chat", "distinct": 4000, "input_words": 9}))]
    assert same == tokens  # one length does not move the other
    fixed = documents(make_workload({"kind": "chat", "distinct": 5, "output_sigma": 0, "input_sigma": 0}))
    assert {(one["max_tokens"], len(one["messages"][0]["content"].split())) for one in fixed} == {(32, 64)}


def test_a_chat_is_what_stock_clients_send() -> None:
    [asked] = documents(make_workload({"kind": "chat", "distinct": 1, "extra_body": {"temperature": 1, "seed": 5}}))
    assert asked | {"messages": None, "max_tokens": None} == {
        "model": "m",
        "messages": None,
        "max_tokens": None,
        "temperature": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 5,
    }
    whole = json.loads(whole_answer_body(json.dumps(asked).encode()))
    assert "stream" not in whole and "stream_options" not in whole and whole["messages"] == asked["messages"]


def test_texts_for_vectors() -> None:
    workload = {"kind": "embed", "most_texts": 4, "distinct": 100}
    bodies = make_bodies(make_workload(workload), "m")
    asked = [json.loads(body.data) for body in bodies]
    assert {len(one["input"]) for one in asked} == {1, 2, 3, 4}
    assert [len(one["input"]) for one in asked] == [body.texts for body in bodies]
    native = make_bodies(make_workload({**workload, "api": "native"}), "m")
    assert [msgpack.unpackb(body.data) for body in native] == [one["input"] for one in asked]
    assert {body.content_type for body in native} == {"application/vnd.headrace.text"}
    assert json.loads(whole_answer_body(bodies[0].data))["encoding_format"] == "float"


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"kind": "talk"}, "Invalid enum value 'talk'"),
        ({"kind": "chat", "input_sigma": -1}, "input_sigma"),
        ({"kind": "chat", "input_words": 0}, "input_words"),
        ({"kind": "chat", "most_texts": 2}, "most_texts does not belong to a workload of the kind chat"),
        ({"kind": "embed", "itl_objective_ms": 2}, "itl_objective_ms does not belong"),
        ({"kind": "chat", "api": "native"}, "chat is asked by the api openai only"),
        ({"kind": "embed", "api": "native", "extra_body": {"a": 1}}, "extra_body needs the api openai"),
        ({"kind": "embed", "input_words": 300}, "input_words must not be above most_input_words"),
        ({"kind": "chat", "output_tokens": 300}, "output_tokens must not be above most_output_tokens"),
        ({"kind": "chat", "distinct": 10**9}, "distinct"),
        ({"kind": "embed", "most_texts": 5000}, "most_texts"),
        ({"kind": "chat", "colour": 1}, "colour"),
    ],
)
def test_mistakes_get_one_sentence(members: dict[str, Any], says: str) -> None:
    with pytest.raises(LoadgenError, match=says) as caught:
        make_workload(members)
    assert caught.value.exit_code == 2
