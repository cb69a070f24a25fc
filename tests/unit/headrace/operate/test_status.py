"""`headrace status` on a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.operate.status import generates, rates
from headrace.redis.inspection import Lane, Model, WorkerSeen
from shared import keys
from shared.redis.client import connect
from shared.redis.embedded import free_port
from shared.state.cards import BatchSettings, Card, Trial, Tuning
from tests.contract.lanes import card
from tests.unit.headrace.operators import MODEL, add, headrace, serve, server


def test_it_shows_models_workers_and_lanes(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        assert headrace(url, "status", "--interval", "0").out == "headrace: no consumer has ever served a model here.\n"
        serve(url)
        add(client, 3)
        client.xreadgroup(keys.GROUP, "w1", {keys.work(MODEL, "default"): ">"}, count=1)
        client.xadd(keys.dead_letters(MODEL, "default"), {"reason": "crashed"})
        said = headrace(url, "status", "--interval", "0.05", "--json")
        assert said.code == 0
        [model] = said.json["models"]
        assert (model["model"], model["family"], model["precision"]) == (MODEL, "echo", "fp32")
        [worker] = model["workers"]
        assert (worker["worker"], worker["precision"], worker["device"]) == ("w1", "fp32", "cpu")
        [lane] = model["lanes"]
        assert {name: lane[name] for name in ("lane", "limit", "depth", "waiting", "running", "dead_letters")} == {
            "lane": "default", "limit": 2048, "depth": 3, "waiting": 2, "running": 1, "dead_letters": 1
        }  # fmt: skip
        assert lane["oldest_age_s"] >= 0
        assert (lane["arriving_per_s"], lane["ending_per_s"]) == (0, 0)
        shown = headrace(url, "status", "--interval", "0").out
        assert "\x1b" not in shown
        workers, lanes = shown.split("\n\n")
        assert workers.splitlines()[1].split()[:7] == [MODEL, "open", "w1", "-", "fp32", "-", "cpu"]
        assert len(workers.splitlines()) == 2  # nothing to choose, so nothing is said of it
        assert lanes.splitlines()[1].split()[:8] == [MODEL, "default", "ordinary", "3", "2048", "1", "2", "1"]


BATCHING = "Batches gain little here: 46 rows/s at 8 rows, 45 one by one; one row fills the processor already."
TRIALS = (
    Trial("torch", "fp32", "not faster than onnxruntime in fp32.", 12.3, 8),
    Trial("onnxruntime", "fp32", "chosen.", 45.6, 4),
    Trial("openvino", "bf16", "its outputs differ: cosine 0.9."),
)


def tuned(**tuning: Any) -> Card:
    """A card of a model that was tuned."""
    batch = BatchSettings(8, 5.0, "adaptive", 4)
    found = Tuning(**{"state": "tuned", "reason": "onnxruntime in fp32 is the fastest.", "trials": TRIALS, **tuning})
    return msgspec.structs.replace(card(MODEL), runtime="onnxruntime", batch=batch, tuning=found)


def test_it_says_what_runs_each_model_and_how_it_came_to_that(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        serve(url, runs=tuned(batching=BATCHING), runtime="onnxruntime", preferred="4", loaded_s="9")
        shown = headrace(url, "status", "--interval", "0").out
        assert shown.splitlines()[0].split()[3:7] == ["RUNTIME", "PRECISION", "BATCH", "DEVICE"]
        assert shown.splitlines()[1].split()[2:7] == ["w1", "onnxruntime", "fp32", "4", "cpu"]
        runs = f"{MODEL} runs in onnxruntime in fp32, best with 4 rows (tuned): onnxruntime in fp32 is the fastest."
        assert shown.splitlines()[2] == f"{runs} {BATCHING}"
        assert "openvino" not in shown
        [_, trials, _] = headrace(url, "status", "--interval", "0", "--tuning").out.split("\n\n")
        assert [line.split()[1:5] for line in trials.splitlines()] == [
            ["RUNTIME", "PRECISION", "ROWS/S", "BATCH"],
            ["torch", "fp32", "12", "8"],
            ["onnxruntime", "fp32", "46", "4"],
            ["openvino", "bf16", "-", "-"],
        ]
        assert trials.splitlines()[3].endswith("its outputs differ: cosine 0.9.")
        [model] = headrace(url, "status", "--interval", "0", "--json").json["models"]
        [worker] = model["workers"]
        assert (model["runtime"], model["precision"], model["preferred"]) == ("onnxruntime", "fp32", 4)
        assert (worker["runtime"], worker["preferred"], worker["loaded_s"]) == ("onnxruntime", "4", "9")
        assert {name: model["tuning"][name] for name in ("state", "batching")} == {
            "state": "tuned", "batching": BATCHING
        }  # fmt: skip
        assert model["tuning"]["trials"][0] == {
            "runtime": "torch", "precision": "fp32", "outcome": TRIALS[0].outcome, "rows_per_s": 12.3, "batch": 8
        }  # fmt: skip


def test_a_model_that_nothing_was_tried_for_has_no_table(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        serve(url)
        shown = headrace(url, "status", "--interval", "0", "--tuning").out
        assert "headrace: nothing has been tried for these models, or their consumers do not say." in shown
        [model] = headrace(url, "status", "--interval", "0", "--json").json["models"]
        assert (model["runtime"], model["preferred"], model["tuning"]) == ("", None, None)


def test_a_card_of_an_older_or_a_newer_version_is_shown_as_far_as_it_is_known(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        serve(url)
        client.hdel(keys.card(MODEL), "runtime", "tuning")
        [model] = headrace(url, "status", "--interval", "0", "--json").json["models"]
        assert (model["runtime"], model["tuning"], model["precision"]) == (None, None, "fp32")
        newer = {"state": "dreaming", "reason": "Who knows.", "more": [1], "trials": [
            {"runtime": "abacus", "precision": "fp2", "outcome": "chosen.", "more": {}}
        ]}  # fmt: skip
        client.hset(keys.card(MODEL), mapping={"tuning": json.dumps(newer), "runtime": '"abacus"', "more": "{}"})
        shown = headrace(url, "status", "--interval", "0", "--tuning").out
        assert f"{MODEL} runs in abacus in fp32 (dreaming): Who knows." in shown
        assert f"{MODEL}   abacus   fp2" in shown


def test_a_queue_without_a_consumer_is_shown(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        client.zadd(keys.MODELS, {MODEL: 1})
        said = headrace(url, "status", "--interval", "0")
        assert said.code == 0
        assert said.out.splitlines()[1].split()[:3] == [MODEL, "open", "none"]


def test_it_says_what_models_generate(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        serve(url, running="3", slots="4", tokens_per_s="98.5")
        serve(url, worker="w2", running="4", slots="4", tokens_per_s="100.0")
        add(client, 2)
        shown = headrace(url, "status", "--interval", "0").out
        assert f"{MODEL} generates in 7 of 8 slots, 198.5 tokens/s; 2 requests wait.\n" in shown
        [model] = headrace(url, "status", "--interval", "0", "--json").json["models"]
        assert [worker["generating"] for worker in model["workers"]] == [
            {"running": 3, "slots": 4, "tokens_per_s": 98.5},
            {"running": 4, "slots": 4, "tokens_per_s": 100.0},
        ]


@pytest.mark.parametrize(
    "said", [{}, {"running": "", "slots": "", "tokens_per_s": ""}, {"running": "nan", "slots": "4"}]
)
def test_nothing_is_said_of_what_is_generated_where_nothing_is(said: dict[str, str]) -> None:
    seen = WorkerSeen("w", 0.0, {"tokens_per_s": "1", **said})
    assert generates(Model("m", 0.0, {}, (seen,), ())) is None


def test_a_full_engine_is_told_of() -> None:
    seen = WorkerSeen("w", 0.0, {"running": "4", "slots": "4", "tokens_per_s": "10"})
    lane = Lane("default", 10, 9, 4, None, 9, 0, has_stream=True, has_group=True)
    said = generates(Model("m", 0.0, {}, (seen,), (lane,)))
    assert said == "m generates in 4 of 4 slots, 10.0 tokens/s; 5 requests wait. All slots are taken."


def test_redis_away_is_one_sentence() -> None:
    said = headrace(f"redis://:secret@127.0.0.1:{free_port()}/0", "status")
    assert said.code == 1
    assert len(said.err.splitlines()) == 1
    assert "secret" not in said.err


def model(added: int, depth: int) -> Model:
    lane = Lane("default", 10, depth, 0, None, added, 0, has_stream=True, has_group=True)
    return Model("m", 0.0, {}, (), (lane,))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((100, 10), (120, 10), (10.0, 10.0)),
        ((100, 10), (120, 30), (10.0, 0.0)),
        ((100, 30), (100, 10), (0.0, 10.0)),
        ((100, 30), (5, 5), None),
    ],
)
def test_rates(before: tuple[int, int], after: tuple[int, int], expected: tuple[float, float] | None) -> None:
    found = rates([model(*before)], [model(*after)], 2.0)
    assert found.get(("m", "default")) == expected


JUNK = {
    "not UTF-8": b"\xff\xfe",
    "a number of thousands of digits": b"9" * 5000,
    "a negative number": b"-1",
    "no number": b"nan",
    "another version": b'{"v":99}',
    "escapes of a terminal": b"\x1b[2J\n",
    "an infinite number": b"1e999",
}
FIELDS = (
    "default",
    "a-lane",
    "v",
    "w1",
    "limit",
    "precision",
    "runtime",
    "preferred",
    "loaded_s",
    "tuning",
    "batch",
    "max_batch",
    "inputs",
    "at_ms",
    "reason",
    "crashes",
    "m",
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", JUNK)
def test_whatever_others_wrote_into_redis_the_commands_say_a_sentence(tmp_path: Path, kind: str) -> None:
    """A user of a lane, or another version, may have written anything."""
    junk, now_ms = JUNK[kind], 9_000_000_000_000
    with server(tmp_path) as url, connect(url) as client:
        serve(url)
        client.zadd(keys.workers(MODEL), {"w1": now_ms, junk: now_ms})
        for name in (keys.card, keys.lanes, keys.failures, keys.starts, keys.desired_state):
            client.hset(name(MODEL), mapping=dict.fromkeys((*FIELDS, junk), junk))
        client.hset(keys.worker(MODEL, "w1"), mapping=dict.fromkeys(FIELDS, junk))
        client.set(keys.lane_bytes(MODEL), junk)
        client.zadd(keys.stored(MODEL, "default"), {junk: 1})
        for stream in (keys.terminations, keys.work, keys.dead_letters):
            client.xadd(stream(MODEL, "default"), dict.fromkeys(FIELDS, junk))
        for command in (
            ("status", "--interval", "0", "--tuning"),
            ("doctor",),
            ("lane", "list", MODEL),
            ("dlq", "list", MODEL),
        ):
            said = headrace(url, *command)
            assert said.code in (0, 1, 2), said
            assert "Traceback" not in said.err
            assert "\x1b" not in said.out
            assert said.out or len(said.err.splitlines()) == 1
