"""How work gets into a batch lane: the header, in every way of asking; and who may not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared import keys
from shared.api_keys import digest_of
from shared.redis.client import connect
from tests.children import ROOT
from tests.e2e.batch_lanes.conftest import NIGHTLY, Lanes
from tests.e2e.bulk.site import JPEG, zipped
from tests.helpers import eventually

PREDICT = "/v1/models/slow/predict"
ALICE, BOB = "hr_alice-alice-alice", "hr_bob-bob-bob"


def photographs(count: int) -> bytes:
    return zipped({f"{number}.jpg": JPEG + b"x" * number for number in range(count)})


def test_a_later_request_is_found_again_without_saying_where(site: Lanes) -> None:
    put = site.ask("POST", PREDICT, JPEG, Content_Type="image/jpeg", Prefer="respond-async", Headrace_Lane=NIGHTLY)
    assert put.status == 202, put.body
    where = put.headers["location"]
    assert eventually(lambda: site.ask("GET", where).status == 200 or None)
    with connect(site.server.url) as client:
        assert client.exists(keys.job("slow", NIGHTLY, where.rpartition("/")[2]))
    assert site.ask("GET", where, Headrace_Lane=NIGHTLY).status == 200
    assert site.ask("GET", where, Headrace_Lane="default").status == 404


def test_a_later_request_of_a_batch_lane_can_be_taken_back(site: Lanes) -> None:
    with site.paused("slow"):
        headers = {"Content_Type": "image/jpeg", "Prefer": "respond-async", "Headrace_Lane": NIGHTLY}
        where = site.ask("POST", PREDICT, JPEG, **headers).headers["location"]
        assert site.ask("GET", where).json["status"] == "queued"
        assert site.ask("DELETE", where).status == 200
        assert site.ask("GET", where).status == 499


def test_a_bulk_batch_runs_in_a_batch_lane(site: Lanes) -> None:
    path = site.begin(
        "slow", photographs(20), "application/zip", Headrace_Lane=NIGHTLY, Headrace_Deadline="1h", Headrace_Keep="5m"
    )
    ended = site.ended(path)
    assert (ended["lane"], ended["counts"]["done"], ended["counts"]["failed"]) == (NIGHTLY, 20, 0)
    assert ended["deadline"] - ended["created_at"] == 3600.0
    assert [one["id"] for one in site.lines(path)] == [f"{number}.jpg" for number in range(20)]
    listed = site.ask("GET", "/v1/models/slow/batches").json["batches"]
    assert ended["id"] in [one["id"] for one in listed]
    assert site.ask("GET", "/v1/models/slow/batches", Headrace_Lane="default").json["batches"] == []


def test_a_batch_of_a_batch_lane_can_be_cancelled(site: Lanes) -> None:
    with site.paused("slow"):
        path = site.begin("slow", photographs(20), "application/zip", Headrace_Lane=NIGHTLY)
        eventually(lambda: site.state(path)["counts"]["in_flight"] or None)
        assert site.state(path)["urgent"] is False
        site.ask("DELETE", path)
        assert "urgent" not in site.ended(path, "cancelled")
    with connect(site.server.url) as client:
        eventually(lambda: client.xlen(keys.work("slow", NIGHTLY)) == 0)
    assert site.lines(path) == []


@pytest.mark.parametrize("lane", ["gold", "nowhere"])
def test_without_keys_only_batch_lanes_can_be_chosen(site: Lanes, lane: str) -> None:
    answers = [
        site.ask("POST", PREDICT, JPEG, Content_Type="image/jpeg", Headrace_Lane=lane),
        site.send("slow", photographs(1), "application/zip", Headrace_Lane=lane),
    ]
    for answer in answers:
        assert (answer.status, answer.code) == (404, "unknown_lane")
        assert f"no batch lane '{lane}'" in answer.json["error"]["message"]
        assert f"lane set slow {lane} --kind batch" in answer.json["error"]["message"]
    with connect(site.server.url) as client:
        assert client.xlen(keys.work("slow", "gold")) == 0


@pytest.mark.parametrize("value", ["a b", "a:b", "{x}", "x" * 65, ""])
def test_a_lane_that_is_no_name(site: Lanes, value: str) -> None:
    answer = site.ask("POST", PREDICT, JPEG, Content_Type="image/jpeg", Headrace_Lane=value)
    assert (answer.status, answer.code, answer.json["error"]["field"]) == (400, "malformed", "Headrace-Lane")
    assert site.ask("GET", "/v1/models/slow/batches", Headrace_Lane=value).status == 400


@pytest.mark.parametrize("value", ["-5m", "0s", "8d", "soon", "2020-01-01T00:00:00Z", "1.5h", ""])
def test_a_deadline_that_is_none(site: Lanes, value: str) -> None:
    answer = site.send("slow", photographs(1), "application/zip", Headrace_Lane=NIGHTLY, Headrace_Deadline=value)
    assert (answer.status, answer.code, answer.json["error"]["field"]) == (400, "malformed", "Headrace-Deadline")
    assert "from 1s to 7d" in answer.json["error"]["message"]


def test_a_key_chooses_among_the_lanes_that_it_has(site: Lanes, tmp_path: Path) -> None:
    listed, kept = tmp_path / "keys.toml", site.stack.url
    entries = [("alice", ALICE, f'lane = "gold"\nlanes = ["{NIGHTLY}"]\n'), ("bob", BOB, "")]
    listed.write_text(
        "".join(f'[keys.{who}]\nsha256 = "{digest_of(key.encode()).hex()}"\n{more}' for who, key, more in entries)
    )
    try:
        site.key = ALICE
        site.start(KEYS_FILE=str(listed))
        eventually(lambda: site.predict("slow", JPEG, Headrace_Lane=NIGHTLY) == 200 or None)
        path = site.begin("slow", photographs(3), "application/zip", Headrace_Lane=NIGHTLY)
        assert site.ended(path)["lane"] == NIGHTLY
        assert site.ended(site.begin("slow", photographs(3), "application/zip"))["lane"] == "gold"
        site.key = BOB
        for answer in (
            site.ask("POST", PREDICT, JPEG, Content_Type="image/jpeg", Headrace_Lane=NIGHTLY),
            site.send("slow", photographs(1), "application/zip", Headrace_Lane=NIGHTLY),
            site.ask("GET", path, Headrace_Lane=NIGHTLY),
        ):
            assert (answer.status, answer.code) == (404, "unknown_lane")
            assert "has no lane 'nightly'" in answer.json["error"]["message"]
        assert site.ask("GET", path).status == 404
        assert site.predict("slow", JPEG) == 200
    finally:
        site.key = ""
        site.stack.latest.terminate()
        site.stack.url = kept


def test_the_command_line_runs_a_file_in_a_batch_lane(site: Lanes, tmp_path: Path) -> None:
    upload, answers = tmp_path / "photos.zip", tmp_path / "answers.jsonl"
    upload.write_bytes(photographs(5))
    command = [sys.executable, "-m", "headrace", "batch", "slow", str(upload), "--url", site.stack.url]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=40, check=False)

    done = run("--lane", NIGHTLY, "--deadline", "2h", "--output", str(answers))
    assert done.returncode == 0, done.stderr
    assert len(answers.read_text().splitlines()) == 5
    [latest, *_] = site.ask("GET", "/v1/models/slow/batches", Headrace_Lane=NIGHTLY).json["batches"]
    assert (latest["counts"]["total"], latest["deadline"] - latest["created_at"]) == (5, 7200.0)
    refused = run("--lane", "gold")
    assert refused.returncode == 4
    assert "no batch lane 'gold'" in refused.stderr
    assert run("--deadline", "-1h").returncode == run("--deadline", "8d").returncode == 2
