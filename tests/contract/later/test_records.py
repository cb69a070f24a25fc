"""Records of later requests on real servers: whatever becomes of the entry, the record says so, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from consumer.queue.interface import Completion, Dead
from producer_api.later.jobs import Job, State, encode_asked, job_from
from shared import keys
from shared.keys import DEFAULT_LANE, LATER
from shared.redis import functions, library
from shared.redis.client import connect
from shared.wire.messages import Fault, ModelTag, Reply, Request, Timing, encode_reply, encode_request

TAG = ModelTag("m", "1", "fp32")
HOUR_MS = 3_600_000


def reply(request_id: str, code: str = "") -> bytes:
    fault = Fault(code, "It went wrong.") if code else None
    return encode_reply(Reply(request_id, TAG, Timing(), fault=fault, predictions=None if fault else []))


class Lane:
    """One model's lane, and a consumer."""

    def __init__(self, url: str, model: str) -> None:
        self.client, self.model, self.work = connect(url), model, keys.work(model, DEFAULT_LANE)
        library.load(self.client)
        self.call(functions.heartbeat(self.work, "w", 60_000, 100, {"kept_bytes": "100000"}, {}))

    def call(self, command: functions.Command) -> Any:
        return self.client.execute_command(*command)

    def submit(self, *request_ids: str, ttl_ms: int = HOUR_MS, asked: str = "1", print: str = "p") -> list[bytes]:
        items: list[Sequence[Any]] = []
        for one in request_ids:
            message = encode_request(Request(one, max(1, ttl_ms), "text/plain", b"x", keep_ms=HOUR_MS), LATER)
            items.append((one, asked, ttl_ms, HOUR_MS, print, encode_asked("/r", "t", None), "", message))
        found: list[bytes] = self.call(functions.later(self.work, 100, items))[1:]
        return found

    def claim(self, count: int = 10) -> list[bytes]:
        found: Any = self.client.xreadgroup(keys.GROUP, "w", {self.work: ">"}, count=count)
        return [entry for _, entries in found for entry, _ in entries]

    def commit(self, entry: bytes, request_id: str, message: bytes, keep_ms: int = HOUR_MS) -> Any:
        return self.call(functions.commit(self.work, 1000, [Completion(entry, request_id, LATER, keep_ms, message)]))

    def job(self, request_id: str) -> Job | None:
        [fields] = self.call(functions.job(self.work, request_id))
        return job_from(request_id, fields)

    def stands(self, request_id: str) -> tuple[State, str]:
        found = self.job(request_id)
        assert found is not None
        return found.state, found.code

    def ends(self) -> list[tuple[str, str]]:
        found: Any = self.client.xrange(keys.job_ends(self.model, DEFAULT_LANE))
        return [(fields[b"id"].decode(), fields[b"code"].decode()) for _, fields in found]


@pytest.fixture
def lane(redis_url: str, model_name: str) -> Iterator[Lane]:
    made = Lane(redis_url, model_name)
    yield made
    made.client.unlink(*made.client.scan_iter(match=f"hr:{{{model_name}}}:*", count=1000))
    made.client.close()


def test_positions_follow_the_line(lane: Lane) -> None:
    statuses = lane.submit("a", "b", "c")
    assert [status.split()[1] for status in statuses] == [b"1", b"2", b"3"]
    first, *_ = lane.claim(1)
    assert lane.stands("a") == (State.RUNNING, "")
    assert [found.position for one in "abc" if (found := lane.job(one))] == [0, 2, 3]
    assert lane.commit(first, "a", reply("a")) == [1]
    assert [found.position for one in "abc" if (found := lane.job(one))] == [0, 1, 2]
    assert lane.call(functions.line(lane.work))[:3] == [3, 2, first]


@pytest.mark.parametrize(("code", "state"), [("", State.DONE), ("model_error", State.FAILED)])
def test_a_commit_ends_it_once(lane: Lane, code: str, state: State) -> None:
    lane.submit("a")
    [entry] = lane.claim()
    assert lane.commit(entry, "a", reply("a", code)) == [1]
    assert lane.commit(entry, "a", reply("a", "internal")) == [0]
    assert lane.stands("a") == (state, code or "ok")
    assert lane.ends() == [("a", code or "ok")]
    assert lane.client.pttl(keys.reply(lane.model, DEFAULT_LANE, "a")) > HOUR_MS / 2
    assert 0 < lane.client.pttl(keys.job(lane.model, DEFAULT_LANE, "a")) <= HOUR_MS
    assert not lane.client.exists(keys.reply_stream(lane.model, DEFAULT_LANE, LATER))


def test_an_outcome_that_is_not_stored_is_in_the_record(lane: Lane) -> None:
    lane.submit("a")
    [entry] = lane.claim()
    assert lane.commit(entry, "a", reply("a", "expired"), keep_ms=0) == [1]
    assert lane.stands("a") == (State.EXPIRED, "expired")
    assert not lane.client.exists(keys.reply(lane.model, DEFAULT_LANE, "a"))


@pytest.mark.parametrize("claims", [False, True])
def test_a_cancellation_ends_it_and_no_commit_after_it(lane: Lane, claims: bool) -> None:
    [status] = lane.submit("a")
    if claims:
        lane.claim()
    assert lane.call(functions.cancel(lane.work, [("a", "")], tell=True)) == [b"claimed" if claims else b"queued"]
    assert lane.commit(status.split()[0], "a", reply("a")) == [0]
    assert lane.stands("a") == (State.CANCELLED, "cancelled")
    assert lane.call(functions.cancel(lane.work, [("a", "")], tell=True)) == [b"answered"]
    assert lane.ends() == [("a", "cancelled")]


def test_a_dead_letter_ends_it_and_opens_it_again(lane: Lane) -> None:
    lane.submit("a")
    [entry] = lane.claim()
    dead = Dead(Completion(entry, "a", LATER, HOUR_MS, reply("a", "crashed")), "It died.", 2)
    assert lane.call(functions.dead(lane.work, 1000, [dead])) == [1]
    assert lane.stands("a") == (State.FAILED, "crashed")
    letters: Any = lane.client.xrange(keys.dead_letters(lane.model, DEFAULT_LANE))
    [(letter, _)] = letters
    [again] = lane.call(functions.requeue(lane.work, [(letter, "a")]))
    assert lane.stands("a") == (State.QUEUED, "")
    assert lane.claim() == [again]
    assert lane.commit(again, "a", reply("a")) == [1]
    assert lane.ends() == [("a", "crashed"), ("a", "ok")]


def test_a_deadline_ends_what_no_consumer_has(lane: Lane) -> None:
    lane.submit("waits", ttl_ms=HOUR_MS)
    lane.submit("claimed", "late", "gone", ttl_ms=0)
    lane.client.xgroup_setid(lane.work, keys.GROUP, "0")
    lane.claim(2)  # waits, and claimed
    gone = lane.job("gone")
    assert gone is not None
    lane.client.xdel(lane.work, gone.entry)
    assert lane.call(functions.overdue(lane.work, 10))[:2] == [2, 2]
    codes = {one: lane.stands(one)[1] for one in ("waits", "claimed", "late", "gone")}
    assert codes == {"waits": "", "claimed": "", "late": "expired", "gone": "unknown_outcome"}
    assert lane.call(functions.overdue(lane.work, 10))[0] == 0


def test_a_lane_that_was_made_anew_keeps_its_later_requests(lane: Lane) -> None:
    lane.submit("a", "b")
    lane.claim(1)
    assert lane.call(functions.repair(lane.work, 10)) == [2, 0]
    assert lane.call(functions.cancel(lane.work, [("a", "")], tell=True)) == [b"queued"]
    [entry] = lane.claim()
    assert lane.commit(entry, "b", reply("b")) == [1]
    assert lane.stands("b") == (State.DONE, "ok")


def test_what_expired_at_the_head_of_a_full_lane_has_ended(lane: Lane) -> None:
    lane.submit("old", ttl_ms=1)
    call = functions.admit(lane.work, 1, "", "", [], [("next", "0", b"message")])
    while (status := lane.call(call)[1]) == b"full":
        pass
    assert status[:1].isdigit()
    assert lane.stands("old") == (State.EXPIRED, "expired")


def test_an_id_stands_for_one_request(lane: Lane) -> None:
    lane.submit("a")
    assert lane.submit("a") == [b"known"]
    assert lane.submit("a", print="other") == [b"differs"]
    assert lane.submit("a", print="") == [b"known"]
    assert lane.call(functions.cancel(lane.work, [("a", "")], tell=True)) == [b"queued"]
    assert lane.submit("a") == [b"known"]
    lane.client.set(keys.flight(lane.model, DEFAULT_LANE, "b"), "1-1 9 p", px=1000)
    assert lane.submit("b")[0][:1].isdigit()  # that entry is gone
    lane.client.rpush(keys.reply(lane.model, DEFAULT_LANE, "c"), "reply")
    lane.client.pexpire(keys.reply(lane.model, DEFAULT_LANE, "c"), 1000)
    assert lane.submit("c") == [b"taken"]


def test_kept_results_are_an_account_of_their_own(lane: Lane) -> None:
    statuses = lane.submit("a", "b", "c")
    lane.claim()
    entries = [status.split()[0] for status in statuses]
    large = reply("a") + bytes(60_000)
    before = lane.call(functions.lane_bytes(lane.work))[1]
    assert lane.commit(entries[0], "a", large) == [1]
    assert lane.call(functions.lane_bytes(lane.work))[1] == before
    assert 60_000 < lane.call(functions.line(lane.work))[3] < 62_000
    assert lane.commit(entries[2], "c", reply("c") + bytes(30_000)) == [1]
    assert lane.commit(entries[1], "b", large) == [b"full"]
    assert lane.stands("b") == (State.RUNNING, "")
    assert lane.commit(entries[1], "b", reply("b", "results_full")) == [1]
    assert lane.submit("d") == [b"results_full"]
    assert lane.call(functions.admit(lane.work, 100, "", "", [], [("sync", "0", b"message")]))[1][:1].isdigit()
    lane.client.unlink(keys.reply(lane.model, DEFAULT_LANE, "a"))
    assert lane.submit("d")[0][:1].isdigit()
