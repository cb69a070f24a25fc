"""Bulk batches of all lanes on the console."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from producer_api.console.actions import jobs
from shared import keys
from shared.redis import functions
from tests.e2e.console_actions.desk import Desk

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def desk(valkey_url: str) -> Iterator[Desk]:
    with Desk(valkey_url) as started:
        yield started


def open_batch(desk: Desk, lane: str, batch_id: str, state: str, attend_ms: int = 60_000, **more: str | int) -> None:
    """Make the record of a batch as front ends do."""
    work = keys.work(desk.model, lane)
    opened = functions.bulk_open(work, batch_id, 1000, 60_000, {"state": "receiving", "keep_ms": 60_000})
    assert desk.redis.execute_command(*opened) == b"opened"
    desk.redis.execute_command(*functions.bulk_save(work, batch_id, "1", attend_ms, "", {"state": state, **more}))


def test_all_lanes_running_ones_among_many_that_have_ended(desk: Desk) -> None:
    counts = {"total": 200, "done": 50, "failed": 3, "in_flight": 10}
    open_batch(desk, "gold", "b-running", "running", **counts, rate="10.0", window_ms=86_400_000, reason="waits <b>")
    for number in range(jobs.MOST_SHOWN + 20):
        open_batch(desk, "default", f"b-{number}", "completed", 3_600_000 + number)
    listed = desk.get(f"/console/jobs?model={desk.model}")
    assert listed.status == 200
    found = {job["id"]: job for job in listed.json["jobs"]}
    assert len(found) <= jobs.MOST_SHOWN
    one = found["b-running"]
    ends_at, deadline = one.pop("ends_at"), one.pop("deadline")
    assert one == {
        "id": "b-running",
        "model": desk.model,
        "lane": "gold",
        "state": "running",
        "total": 200,
        "done": 50,
        "failed": 3,
        "percent": 25.0,
        "rate_per_s": 10.0,
        "reason": "waits <b>",
    }
    assert 0 < ends_at < deadline
    assert deadline - ends_at > 86_000 - 60
    ended = found[f"b-{jobs.MOST_SHOWN + 19}"]
    assert (ended["state"], ended["deadline"], ended["lane"]) == ("completed", None, "default")


def test_a_batch_is_cancelled_once(desk: Desk) -> None:
    open_batch(desk, "default", "b-wrong", "running", total=9)
    asked = {"model": desk.model, "lane": "default", "id": "b-wrong"}
    assert desk.post("/console/jobs/cancel", asked).json == {**asked, "was": "running"}
    assert desk.redis.hget(keys.bulk_record(desk.model, "default", "b-wrong"), "state") == b"cancelling"
    assert desk.post("/console/jobs/cancel", asked).json["was"] == "cancelling"
    assert desk.post("/console/jobs/cancel", {**asked, "lane": "gold"}).error["code"] == "unknown_batch"
    open_batch(desk, "default", "b-done", "completed")
    refused = desk.post("/console/jobs/cancel", {**asked, "id": "b-done"})
    assert (refused.status, refused.error["code"]) == (409, "batch_ended")


def test_an_entry_that_is_no_batch_is_left_out(desk: Desk) -> None:
    desk.redis.zadd(keys.bulk(desk.other), {b"\xff": 1, "nothing": 2, "default:gone": 3})
    desk.redis.zadd(keys.bulk_list(desk.other, "gold"), {"<script>": 1})
    assert desk.get(f"/console/jobs?model={desk.other}").json == {"jobs": []}
