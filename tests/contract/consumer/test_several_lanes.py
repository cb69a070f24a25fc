"""What a work stream promises of a model with several lanes, in memory and on real servers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from consumer.queue.interface import Completion, Dead, Entry, StreamDown, WorkStream
from consumer.queue.redis_stream import RedisStream
from shared import keys
from shared.redis import functions
from tests.contract.lanes import Lane, RedisLane, card
from tests.helpers import eventually

SHORT_LEASE_MS = 500
MAIN = keys.DEFAULT_LANE


@pytest.fixture
def real(redis_url: str, model_name: str) -> Iterator[RedisLane]:
    made = RedisLane(model_name, redis_url)
    yield made
    made.close()


def ready(lane: Lane, worker: str = "one", lease_ms: int = 15_000) -> WorkStream:
    stream = lane.stream(worker, lease_ms)
    beat(lane, stream)
    return stream


def beat(lane: Lane, stream: WorkStream) -> None:
    stream.heartbeat(card(lane.model), {"pid": "1"})


def added(lane: Lane, count: int = 1) -> list[bytes]:
    ids = [lane.add(b"message %d" % number) for number in range(count)]
    assert None not in ids
    return [entry_id for entry_id in ids if entry_id is not None]


def ended(entry: Entry, request_id: str = "a", reply: bytes = b"reply", *, to: str = "") -> Completion:
    return Completion(entry.entry_id, request_id, to, 60_000, reply, entry.lane)


def counted(entries: list[Entry]) -> dict[str, int]:
    return dict(Counter(entry.lane for entry in entries))


def test_a_new_lane_is_served_from_the_next_heartbeat_on(lane: Lane) -> None:
    stream = ready(lane)
    gold = lane.other("gold")
    assert gold.add(b"too early") is None
    beat(lane, stream)
    (entry_id,) = added(gold)
    (entry,) = stream.read(5)
    assert (entry.lane, entry.entry_id, entry.attempt) == ("gold", entry_id, 1)


def test_a_flooded_lane_leaves_the_others_their_share(lane: Lane) -> None:
    gold = lane.other("gold")
    stream = ready(lane)
    added(lane, 40)
    assert counted(stream.read(8)) == {MAIN: 8}
    added(gold, 6)
    assert counted(stream.read(8)) == {MAIN: 4, "gold": 4}
    assert counted(stream.read(8)) == {MAIN: 6, "gold": 2}
    assert counted(stream.read(30)) == {MAIN: 22}


def test_a_large_weight_is_a_priority(lane: Lane) -> None:
    gold = lane.other("gold", weight=9.0)
    stream = ready(lane)
    added(lane, 40)
    added(gold, 40)
    assert counted(stream.read(20)) == {MAIN: 2, "gold": 18}


def test_a_read_of_empty_lanes_returns_nothing_in_bounded_time(lane: Lane) -> None:
    lane.other("gold")
    assert ready(lane, lease_ms=SHORT_LEASE_MS).read(1) == []


def test_a_read_of_several_lanes_that_does_not_wait(lane: Lane) -> None:
    """One that does would take a second each time, and the test longer than it may."""
    gold = lane.other("gold")
    stream = ready(lane)
    assert [stream.read(1, wait=False) for _ in range(100)] == [[]] * 100
    (entry_id,) = added(gold)
    assert [(entry.lane, entry.entry_id) for entry in stream.read(2, wait=False)] == [("gold", entry_id)]


def test_a_read_waits_for_whichever_lane_fills_first(lane: Lane) -> None:
    gold = lane.other("gold")
    stream = ready(lane)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(stream.read, 5)
        (entry_id,) = added(gold)
        entries = reading.result() or stream.read(5)
    assert [(entry.lane, entry.entry_id) for entry in entries] == [("gold", entry_id)]


def test_who_has_less_than_its_share_of_a_full_batch_is_claimed_ahead(lane: Lane) -> None:
    stream = ready(lane)
    assert not stream.has_several_lanes()
    gold = lane.other("gold")
    beat(lane, stream)
    assert stream.has_several_lanes()
    added(lane, 20)
    assert counted(stream.read(8)) == {MAIN: 8}
    assert stream.read_priority(8, {MAIN: 8}) == []
    added(gold, 6)
    assert stream.read_priority(8, {MAIN: 4, "gold": 4}) == []
    assert counted(stream.read_priority(8, {MAIN: 8, "gold": 5})) == {"gold": 3}
    assert counted(stream.read_priority(8, {MAIN: 8})) == {"gold": 3}


def test_each_reply_goes_to_the_lane_of_its_request(lane: Lane) -> None:
    gold = lane.other("gold")
    stream = ready(lane)
    added(lane, 2)
    added(gold, 2)
    entries = stream.read(4)
    replies = [ended(entry, f"r{n}", entry.lane.encode(), to="me") for n, entry in enumerate(entries)]
    assert stream.commit(replies) == [1, 1, 1, 1]
    assert stream.commit(replies) == [0, 0, 0, 0]
    for one, name in ((lane, b"default"), (gold, b"gold")):
        assert one.length() == 0
        assert {reply for _, reply in one.hints("me") if reply is not None} == {name}
    for reply in replies:
        asked, other = (gold, lane) if reply.lane == "gold" else (lane, gold)
        assert asked.reply(reply.request_id) == reply.lane.encode()
        assert other.reply(reply.request_id) is None


def test_the_same_id_in_two_lanes_is_two_requests(lane: Lane) -> None:
    gold = lane.other("gold")
    stream = ready(lane)
    added(lane)
    added(gold)
    assert stream.commit([ended(entry, "same", entry.lane.encode()) for entry in stream.read(2)]) == [1, 1]
    assert (lane.reply("same"), gold.reply("same")) == (b"default", b"gold")


def test_committing_and_reading_in_one_step(lane: Lane) -> None:
    gold = lane.other("gold")
    stream = ready(lane)
    added(lane)
    added(gold)
    first = stream.read(2)
    added(lane)
    added(gold)
    seen: list[bytes | None] = []
    second = stream.commit_and_read(
        [ended(entry) for entry in first], lambda: seen.extend((lane.reply("a"), gold.reply("a"))), 2
    )
    assert seen == [b"reply", b"reply"]
    assert counted(second) == {MAIN: 1, "gold": 1}
    assert (lane.length(), gold.length()) == (1, 1)


def test_leases_of_all_lanes_are_renewed_and_taken_over(lane: Lane) -> None:
    gold = lane.other("gold")
    slow, fast = ready(lane, "slow", SHORT_LEASE_MS), ready(lane, "fast", SHORT_LEASE_MS)
    added(lane)
    added(gold)
    kept, lost = sorted(slow.read(2), key=lambda entry: entry.lane)

    def taken() -> list[Entry]:
        assert kept.claim not in slow.renew([kept.claim])
        return fast.reclaim(1)

    (entry,) = eventually(taken)
    assert (entry.claim, entry.attempt) == (lost.claim, 2)
    assert fast.begin_isolated(entry)
    assert slow.renew([kept.claim, lost.claim]) == [lost.claim]
    assert fast.commit([ended(entry, reply=b"fast")]) == [1]
    assert gold.reply("a") == b"fast"


def test_dead_letters_stay_in_their_lane(lane: Lane) -> None:
    gold = lane.other("gold")
    stream = ready(lane)
    added(lane)
    added(gold)
    dead = [Dead(ended(entry), f"from {entry.lane}", 2) for entry in stream.read(2)]
    assert stream.dead_letter(dead) == [1, 1]
    assert [reason for reason, _, _ in lane.dead()] == ["from default"]
    assert [reason for reason, _, _ in gold.dead()] == ["from gold"]


def test_depth_is_told_by_lane(lane: Lane) -> None:
    gold = lane.other("gold")
    stream = ready(lane)
    added(lane, 2)
    added(gold, 3)
    stream.read(2)
    assert {name: (depth.backlog, depth.pending) for name, depth in stream.depth().items()} == {
        MAIN: (1, 1),
        "gold": (2, 1),
    }


def test_leaving_leaves_every_lane(lane: Lane) -> None:
    gold = lane.other("gold")
    stream = ready(lane)
    added(lane)
    added(gold)
    stream.commit([ended(entry) for entry in stream.read(2)])
    stream.leave()
    assert lane.consumers() == gold.consumers() == set()


def test_a_lane_that_is_deleted_does_not_harm_the_others(real: RedisLane) -> None:
    gold = real.other("gold")
    stream = ready(real)
    added(real, 2)
    added(gold, 2)
    entries = stream.read(4)
    real.client.unlink(keys.work(real.model, "gold"))
    assert stream.renew([entry.claim for entry in entries]) == []
    assert sum(stream.commit([ended(entry, f"r{n}") for n, entry in enumerate(entries)])) == 2
    added(real)
    assert counted(stream.read(4)) == {MAIN: 1}
    beat(real, stream)
    added(gold)
    assert counted(stream.read(4)) == {"gold": 1}


def test_what_a_lost_answer_had_claimed_is_read_again_in_every_lane(real: RedisLane) -> None:
    gold = real.other("gold")
    stream = ready(real, lease_ms=SHORT_LEASE_MS)
    assert stream.read(1) == []
    wanted = {(MAIN, entry_id) for entry_id in added(real, 2)} | {("gold", entry_id) for entry_id in added(gold, 2)}
    for name in (MAIN, "gold"):  # as if the server had answered into a dead connection
        real.client.xreadgroup(keys.GROUP, "one", {keys.work(real.model, name): ">"})
    for client in real.client.client_list():
        if client["cmd"] == "xreadgroup" and client["id"] != str(real.client.client_id()):
            real.client.client_kill_filter(_id=client["id"])
    with pytest.raises(StreamDown):
        stream.read(2)
    assert {entry.claim for _ in range(6) for entry in stream.read(2)} == wanted
    fresh = {("gold", entry_id) for entry_id in added(gold)}
    assert {entry.claim for entry in stream.read(2)} == fresh


def test_functions_that_went_missing_are_loaded_for_all_lanes(real: RedisLane) -> None:
    gold = real.other("gold")
    stream = ready(real)
    added(real)
    added(gold)
    entries = stream.read(2)
    real.client.function_flush()
    assert stream.commit([ended(entry) for entry in entries]) == [1, 1]


def test_an_operators_limit_outlives_a_heartbeat(real: RedisLane) -> None:
    stream = ready(real)
    assert real.client.hget(keys.lanes(real.model), MAIN) == b"2048"
    real.client.hset(keys.lanes(real.model), MAIN, "7,3")
    beat(real, stream)
    assert real.client.hget(keys.lanes(real.model), MAIN) == b"7,3"


def test_without_other_lanes_nothing_changes(real: RedisLane) -> None:
    """One XREADGROUP that blocks: no looks, no shares."""
    stream = ready(real)
    assert isinstance(stream, RedisStream)
    assert [command[0] for command in stream._reads(stream._fair_share, 8)] == ["XREADGROUP"]


def repaired(lane: RedisLane, most: int = 1000) -> Any:
    return lane.client.execute_command(*functions.repair(lane.work, most))


def test_a_repair_puts_survivors_back_and_the_lane_takes_more(real: RedisLane) -> None:
    gold = real.other("gold")
    assert isinstance(gold, RedisLane)
    stream = ready(real)
    added(gold, 3)
    (held,) = stream.read(1)
    real.client.xadd(gold.work, {"m": b"highest"}, id="18446744073709551615-18446744073709551615")
    with pytest.raises(Exception, match=r"exhausted|equal or smaller"):
        real.client.xadd(gold.work, {"m": b"more"})
    assert repaired(gold) == [4, 0]
    (more,) = added(gold)
    entries = stream.read(10)
    assert [entry.message for entry in entries] == [b"message 0", b"message 1", b"message 2", b"highest", b"message 0"]
    assert entries[-1].entry_id == more
    assert stream.commit([ended(held, "late")]) == [0]
    assert stream.commit([ended(entry, f"r{n}") for n, entry in enumerate(entries)]) == [1] * 5
    assert gold.length() == 0
    assert real.client.exists(f"hr:{{{real.model}}}:repair:gold") == 0


def test_a_repair_keeps_the_oldest_and_counts_what_it_drops(real: RedisLane) -> None:
    gold = real.other("gold")
    assert isinstance(gold, RedisLane)
    stream = ready(real)
    added(gold, 250)
    assert repaired(gold, 230) == [230, 20]
    assert [entry.message for entry in stream.read(300)] == [b"message %d" % number for number in range(230)]
    assert repaired(gold, 0) == [0, 230]
    assert repaired(gold) == [0, 0]
    real.client.unlink(gold.work)
    assert repaired(gold) == [0, 0]
    assert gold.consumers() == set()


def test_a_repair_gives_no_id_a_second_time(real: RedisLane) -> None:
    """Not even within the millisecond in which the old one was made: its late commit would end another request."""
    gold = real.other("gold")
    assert isinstance(gold, RedisLane)
    ready(real)
    for _ in range(20):
        with real.client.pipeline(transaction=True) as step:
            step.xadd(gold.work, {"m": b"old"})
            step.execute_command(*functions.repair(gold.work, 10))
            step.xrange(gold.work)
            old, _, [(new, _)] = step.execute()
        assert new != old
        real.client.xdel(gold.work, new)


def test_a_repair_survives_entries_that_no_call_can_carry(real: RedisLane) -> None:
    gold = real.other("gold")
    assert isinstance(gold, RedisLane)
    stream = ready(real)
    real.client.xadd(gold.work, {f"field {number}": b"x" for number in range(10_000)})
    added(gold)
    assert repaired(gold) == [1, 1]
    assert [entry.message for entry in stream.read(5)] == [b"message 0"]


def test_a_clock_that_was_set_back_leaves_no_ids_in_the_future(real: RedisLane) -> None:
    gold, silver = real.other("gold"), real.other("silver")
    assert isinstance(gold, RedisLane)
    stream = ready(real)
    now_ms = int(stream.clock.now_ms())
    real.client.xadd(gold.work, {"m": b"from before"}, id=f"{now_ms + 3_600_000}-0")
    before = added(silver)
    stream.clock.observe(now_ms + 3_600_000, time.monotonic(), time.monotonic())  # so it was, until now
    beat(real, stream)
    assert stream.clock.set_backs == 1
    entries = {entry.lane: entry for entry in stream.read(2)}
    assert entries["gold"].message == b"from before"
    assert abs(entries["gold"].added_ms - now_ms) < 3_000_000
    assert entries["silver"].entry_id == before[0]
    again = real.client.xadd(gold.work, {"m": b"and now"})
    beat(real, stream)
    assert [entry.entry_id for entry in stream.read(2)] == [again]


def test_lanes_outlive_a_flush_while_a_consumer_lives(real: RedisLane) -> None:
    gold = real.other("gold", weight=3.0)
    first, second = ready(real, "one"), ready(real, "two")
    real.client.hset(keys.lanes(real.model), MAIN, "70,2")
    for stream in (first, second):
        beat(real, stream)
    before = real.client.hgetall(keys.lanes(real.model))
    real.flush()
    for stream in (first, second):
        beat(real, stream)
    assert real.client.hgetall(keys.lanes(real.model)) == before
    (entry_id,) = added(gold)
    assert [entry.claim for entry in first.read(1)] == [("gold", entry_id)]


def test_a_lane_that_an_operator_removes_does_not_come_back(real: RedisLane) -> None:
    real.other("gold")
    stream = ready(real)
    real.client.hdel(keys.lanes(real.model), "gold")
    real.client.unlink(keys.work(real.model, "gold"))
    for _ in range(2):
        beat(real, stream)
    assert list(real.client.hgetall(keys.lanes(real.model))) == [MAIN.encode()]
    assert list(stream.depth()) == [MAIN]
    assert not real.client.exists(keys.work(real.model, "gold"))
