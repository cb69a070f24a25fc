"""A batch whose deadline nears waits for gaps no longer; and one that cannot be met."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shared import keys
from shared.redis.client import connect
from shared.state.lanes import PAUSED, paused_field
from shared.wire.fast import decode_request
from shared.wire.messages import Request
from tests.e2e.batch_lanes.conftest import NIGHTLY, Lanes
from tests.e2e.batch_lanes.test_chosen_lanes import photographs
from tests.e2e.bulk.site import JPEG
from tests.helpers import eventually

LATER = {"Content_Type": "image/jpeg", "Prefer": "respond-async", "Headrace_Lane": NIGHTLY}


def test_a_batch_that_gets_no_gaps_is_urgent_in_time_and_meets_its_deadline(site: Lanes) -> None:
    upload = ("slow", photographs(300), "application/zip")
    with connect(site.server.url) as client:
        with site.paused("slow"):
            path = site.begin(*upload, Headrace_Lane=NIGHTLY, Headrace_Deadline="20s")
            other = site.begin(*upload, Headrace_Lane=NIGHTLY, Headrace_Deadline="1h")
            state = eventually(lambda: found if (found := site.state(path))["urgent"] else None)
            assert state["state"] == "running"
            assert eventually(lambda: _is_in_a_hurry(client) or None)
            assert eventually(lambda: "urgent" in site.state(other).get("reason", "") or None)  # it puts nothing in
            assert site.state(other)["urgent"] is False
        assert eventually(lambda: any(one.urgent for one in _in_lane(client)) or None)
        ended = site.ended(path)
        assert ended["ended_at"] < ended["deadline"]
        assert ended["counts"]["failed"] == 0
        assert eventually(lambda: not _is_in_a_hurry(client) or None)  # nobody says so any more
        site.ended(other)


def test_without_any_gap_what_is_urgent_takes_turns_with_the_others(site: Lanes) -> None:
    """Others keep the device busy all the time: a batch meets its deadline, and so does a later request."""
    over, statuses = threading.Event(), list[int]()

    def flood() -> None:
        while not over.is_set():
            statuses.append(site.predict("slow", JPEG))

    with ThreadPoolExecutor(10) as pool:
        for _ in range(10):
            pool.submit(flood)
        try:
            eventually(lambda: len(statuses) > 50 or None)
            later = site.ask("POST", "/v1/models/slow/predict?timeout_ms=4000", JPEG, **LATER).headers["location"]
            batch = ("slow", photographs(100), "application/zip")
            path = site.begin(*batch, Headrace_Lane=NIGHTLY, Headrace_Deadline="10s")
            ended = site.ended(path)
            assert ended["ended_at"] < ended["deadline"]
            assert ended["counts"]["failed"] == 0
            assert site.ask("GET", later, Headrace_Lane=NIGHTLY).status == 200
        finally:
            over.set()
    assert set(statuses) == {200}


def _is_in_a_hurry(client: Any) -> bool:
    until_ms = client.zscore(keys.hurried("slow"), NIGHTLY)
    return until_ms is not None and until_ms > int(client.time()[0]) * 1000


def _in_lane(client: Any) -> list[Request]:
    return [decode_request(fields[b"m"]) for _, fields in client.xrange(keys.work("slow", NIGHTLY))]


def test_what_cannot_be_done_by_the_deadline_ends_with_a_sentence_and_disturbs_nobody(site: Lanes) -> None:
    with site.paused("slow"):
        path = site.begin("slow", photographs(9), "application/zip", Headrace_Lane=NIGHTLY, Headrace_Deadline="2s")
        assert site.predict("slow", JPEG) == 200
        failed = site.ended(path, "failed")
        assert "longer than" in failed["reason"]
        assert site.predict("slow", JPEG) == 200
    with connect(site.server.url) as client:
        eventually(lambda: client.xlen(keys.work("slow", NIGHTLY)) == 0)


def test_a_flood_into_the_batch_lane_is_held_by_its_limit_and_disturbs_nobody(site: Lanes) -> None:
    with connect(site.server.url) as client:
        client.hset(keys.lanes("slow"), NIGHTLY, "30,1")
        client.hset(keys.lanes("slow"), paused_field(NIGHTLY), PAUSED)
        try:
            eventually(lambda: site.ask("POST", "/v1/models/slow/predict", JPEG, **LATER).status == 429)
            full = site.ask("POST", "/v1/models/slow/predict", JPEG, **LATER)
            assert (full.status, full.code) == (429, "lane_full")
            assert "30 requests" in full.json["error"]["message"]
            assert client.xlen(keys.work("slow", NIGHTLY)) == 30
            # Even one that has hardly any time is let in: what waits in the batch lane is not before it.
            assert site.predict("slow", JPEG, "?timeout_ms=900") == 200
        finally:
            client.hset(keys.lanes("slow"), NIGHTLY, "2000,1")
            client.hdel(keys.lanes("slow"), paused_field(NIGHTLY))
        eventually(lambda: client.xlen(keys.work("slow", NIGHTLY)) == 0)


def test_clients_that_wait_for_a_batch_lane_do_not_take_the_places_of_others(site: Lanes) -> None:
    with site.paused("slow"), ThreadPoolExecutor(24) as pool:
        wait = "?timeout_ms=3000"
        patient = [pool.submit(site.predict, "slow", JPEG, wait, Headrace_Lane=NIGHTLY) for _ in range(24)]
        assert [site.predict("slow", JPEG) for _ in range(5)] == [200] * 5
        statuses = [one.result() for one in patient]
    assert statuses.count(504) == 4  # a quarter of this front end's 16 places
    assert statuses.count(503) == 20


def test_an_item_larger_than_a_batch_has_an_error_and_the_others_run(site: Lanes) -> None:
    def item(rows: int) -> bytes:
        given = {"name": "input", "shape": [rows, 2], "datatype": "UINT8", "data": [7] * 2 * rows}
        return json.dumps({"inputs": [given]}).encode() + b"\n"

    upload = item(8) + item(9) + item(1)
    site.stack.start_consumer("echo", MAX_BATCH="8")
    eventually(lambda: site.ask("GET", "/v1/models/echo").status == 200)
    with connect(site.server.url) as client:
        client.hset(keys.lanes("echo"), mapping={NIGHTLY: "100,1", f"{NIGHTLY}:kind": "batch"})
    answer = eventually(
        lambda: found if (found := site.send("echo", upload, Headrace_Lane=NIGHTLY)).status == 201 else None
    )
    path = answer.headers["location"]
    site.ended(path)
    whole, large, small = site.lines(path)
    assert (whole["response"]["outputs"][0]["shape"], small["response"]["outputs"][0]["shape"]) == ([8, 2], [1, 2])
    assert (large["status"], large["error"]["code"]) == (422, "invalid_input")
    assert "8" in large["error"]["message"]
