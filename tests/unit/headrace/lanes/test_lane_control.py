"""`lane set`, `lane pause`, `lane resume` and `lane empty`, and a consumer that follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from consumer.queue.redis_stream import RedisStream
from shared import keys
from shared.redis.client import connect
from shared.settings import Settings
from shared.state.lanes import kind_field
from shared.wire.messages import Request, encode_request
from tests.contract.lanes import card
from tests.unit.headrace.operators import LONG_LEASE, MODEL, Said, headrace, serve, server


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("lanes")) as running:
        serve(running)
        yield running


def _add(url: str, lane: str, name: str) -> None:
    with connect(url) as client:
        request = Request(name, 60_000, "application/octet-stream", b"x")
        client.xadd(keys.work(MODEL, lane), {keys.MESSAGE_FIELD: encode_request(request)})


def _lane(url: str, name: str) -> dict[str, object]:
    listed = headrace(url, "lane", "list", MODEL, "--json").json["lanes"]
    [found] = [one for one in listed if one["lane"] == name]
    return dict(found)


def _well(said: Said) -> Said:
    assert said.code == 0, said.err
    return said


def test_set_creates_and_changes(url: str) -> None:
    _well(headrace(url, "lane", "set", MODEL, "silver", "--weight", "4"))
    found = _lane(url, "silver")
    assert (found["limit"], found["weight"], found["paused"]) == (2048, 4.0, False)
    _well(headrace(url, "lane", "set", MODEL, "silver", "--limit", "7"))
    found = _lane(url, "silver")
    assert (found["limit"], found["weight"]) == (7, 4.0)
    assert headrace(url, "lane", "set", MODEL, "silver").code == 2
    assert headrace(url, "lane", "set", MODEL, "bronze", "--limit", "0").code == 2
    assert headrace(url, "lane", "set", "ecko", "bronze").err.endswith("Did you mean echo?\n")


def test_nothing_of_a_paused_lane_is_claimed(url: str) -> None:
    _well(headrace(url, "lane", "set", MODEL, "gold"))
    _well(headrace(url, "lane", "pause", MODEL, "gold"))
    assert _lane(url, "gold")["paused"] is True
    assert "paused" in headrace(url, "lane", "list", MODEL).out
    settings = Settings.from_env({"HEADRACE_REDIS_URL": url, **LONG_LEASE})
    with closing(RedisStream(settings, MODEL, "w2")) as stream:
        stream.heartbeat(card(MODEL), {})
        _add(url, "gold", "g1")
        _add(url, "default", "d1")
        assert [entry.lane for entry in stream.read(10, wait=False)] == ["default"]
        assert stream.read(10, wait=False) == []
        assert stream.reclaim(10) == []
        _well(headrace(url, "lane", "resume", MODEL, "gold"))
        stream.heartbeat(card(MODEL), {})
        assert [entry.lane for entry in stream.read(10)] == ["gold"]


def test_the_only_lane_may_rest_too(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        serve(url)
        _well(headrace(url, "lane", "pause", MODEL, "default"))
        settings = Settings.from_env({"HEADRACE_REDIS_URL": url, "HEADRACE_LEASE_MS": "1000"})
        with closing(RedisStream(settings, MODEL, "w2")) as stream:
            stream.heartbeat(card(MODEL), {})
            _add(url, "default", "d1")
            assert stream.read(10) == []
            assert stream.read_priority(10.0, {}) == []
            _well(headrace(url, "lane", "resume", MODEL, "default"))
            stream.heartbeat(card(MODEL), {})
            assert len(stream.read(10)) == 1


def test_empty_drops_what_is_there_and_keeps_the_lane(url: str) -> None:
    _well(headrace(url, "lane", "set", MODEL, "full", "--limit", "9"))
    serve(url)  # it makes the stream
    for name in ("a", "b"):
        _add(url, "full", name)
    refused = headrace(url, "lane", "empty", MODEL, "full")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert _lane(url, "full")["depth"] == 2
    assert _well(headrace(url, "lane", "empty", MODEL, "full", "--yes", "--json")).json["dropped"] == 2
    found = _lane(url, "full")
    assert (found["depth"], found["limit"]) == (0, 9)


def test_a_removed_lane_leaves_no_pause_behind(url: str) -> None:
    _well(headrace(url, "lane", "set", MODEL, "gone"))
    _well(headrace(url, "lane", "pause", MODEL, "gone"))
    _well(headrace(url, "lane", "remove", MODEL, "gone", "--yes"))
    _well(headrace(url, "lane", "set", MODEL, "gone"))
    assert _lane(url, "gone")["paused"] is False


@pytest.mark.parametrize("command", ["pause", "resume", "empty"])
def test_lanes_that_are_not_there(url: str, command: str) -> None:
    assert headrace(url, "lane", command, MODEL, "nobody").code == 2
    assert headrace(url, "lane", command, MODEL, "no/name").code == 2


def test_a_lane_becomes_a_batch_lane_and_an_ordinary_one_again(url: str) -> None:
    said = _well(headrace(url, "lane", "set", MODEL, "nightly", "--kind", "batch", "--limit", "50"))
    assert "batch lane nightly" in said.out
    assert _lane(url, "nightly")["kind"] == "batch"
    assert "batch" in headrace(url, "lane", "list", MODEL).out
    [model] = headrace(url, "status", "--json", "--interval", "0").json["models"]
    assert {one["lane"]: one["kind"] for one in model["lanes"]} == {
        one["lane"]: "batch" if one["lane"] == "nightly" else "ordinary" for one in model["lanes"]
    }
    _well(headrace(url, "lane", "set", MODEL, "nightly", "--weight", "3"))
    assert (_lane(url, "nightly")["kind"], _lane(url, "nightly")["weight"]) == ("batch", 3.0)
    assert "an ordinary lane" in _well(headrace(url, "lane", "set", MODEL, "nightly", "--kind", "ordinary")).out
    assert _lane(url, "nightly")["kind"] == "ordinary"


def test_a_batch_lane_is_repaired_guarded_and_removed_as_others_are(url: str) -> None:
    _well(headrace(url, "lane", "create", MODEL, "weekly", "--kind", "batch", "--limit", "2"))
    for number in range(5):
        _add(url, "weekly", f"w-{number}")
    guarded = headrace(url, "lane", "guard", "--once", "--json")
    assert [(one["lane"], one["depth"]) for one in guarded.json["floods"]] == [("weekly", 5)]
    assert headrace(url, "lane", "repair", MODEL, "weekly", "--yes", "--json").json["kept"] == 2
    assert _lane(url, "weekly")["kind"] == "batch"
    _well(headrace(url, "lane", "remove", MODEL, "weekly", "--yes"))
    with connect(url) as client:
        assert not client.hexists(keys.lanes(MODEL), kind_field("weekly"))


def test_default_is_no_batch_lane_and_other_kinds_are_none(url: str) -> None:
    said = headrace(url, "lane", "set", MODEL, "default", "--kind", "batch")
    assert said.code == 2
    assert "default cannot be a batch lane" in said.err
    assert _lane(url, "default")["kind"] == "ordinary"
    assert headrace(url, "lane", "set", MODEL, "nightly", "--kind", "express").code == 2
