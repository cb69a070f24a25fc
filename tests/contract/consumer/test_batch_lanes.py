"""What a work stream promises of lanes of kind ``batch``, in memory and on real servers."""

from __future__ import annotations

import pytest

from consumer.queue.interface import Completion, Entry, WorkStream
from shared import keys
from tests.contract.lanes import Lane, RedisLane, card
from tests.helpers import eventually

MAIN = keys.DEFAULT_LANE
SHORT_LEASE_MS = 500


def ready(lane: Lane, worker: str = "one", lease_ms: int = 15_000) -> WorkStream:
    stream = lane.stream(worker, lease_ms)
    stream.heartbeat(card(lane.model), {"pid": "1"})
    return stream


def ids(entries: list[Entry]) -> list[bytes]:
    return [entry.entry_id for entry in entries]


def ended(entry: Entry) -> Completion:
    return Completion(entry.entry_id, "a", "", 60_000, b"reply", entry.lane)


def test_each_kind_of_lane_is_read_by_its_own_reader(lane: Lane) -> None:
    bulk, gold = lane.other("bulk", is_batch=True), lane.other("gold")
    stream = ready(lane)
    assert (list(stream.lanes), list(stream.batch.lanes)) == ([MAIN, "gold"], ["bulk"])
    of_now = [one.add(b"now") for one in (lane, gold)]
    of_later = bulk.add(b"later")
    assert set(ids(stream.read(10))) == set(of_now)
    (entry,) = stream.batch.read(10)
    assert (entry.entry_id, entry.lane) == (of_later, "bulk")
    assert stream.batch.read(10, wait=False) == stream.read(10, wait=False) == []
    assert stream.commit([ended(entry)]) == [1]
    assert bulk.length() == 0


def test_without_such_a_lane_there_is_nothing_to_read(lane: Lane) -> None:
    stream = ready(lane)
    lane.add(b"now")
    assert (list(stream.batch.lanes), stream.batch.reclaim(1)) == ([], [])
    assert len(stream.read(10)) == 1


def test_several_batch_lanes_share_by_their_weights(lane: Lane) -> None:
    heavy, light = lane.other("heavy", 3.0, is_batch=True), lane.other("light", 1.0, is_batch=True)
    stream = ready(lane)
    for _ in range(40):
        heavy.add(b"x")
        light.add(b"x")
    taken = [entry.lane for _ in range(5) for entry in stream.batch.read(8)]
    assert (taken.count("heavy"), taken.count("light")) == (30, 10)


def test_what_a_dead_consumer_held_is_taken_over_by_the_same_kind(lane: Lane) -> None:
    bulk = lane.other("bulk", is_batch=True)
    dead, alive = ready(lane, "dead", SHORT_LEASE_MS), ready(lane, "alive", SHORT_LEASE_MS)
    entry_id = bulk.add(b"later")
    assert ids(dead.batch.read(1)) == [entry_id]
    (taken,) = eventually(lambda: alive.batch.reclaim(1))
    assert (taken.entry_id, taken.lane, alive.reclaim(1)) == (entry_id, "bulk", [])
    assert alive.begin_isolated(taken)
    assert alive.renew([taken.claim]) == []
    assert dead.renew([taken.claim]) == [taken.claim]


def test_hand_overs_are_heard_by_both_readers(lane: Lane) -> None:
    bulk = lane.other("bulk", is_batch=True)
    one, other = ready(lane, "one"), ready(lane, "other")
    bulk.add(b"later")
    (entry,) = one.batch.read(1)
    assert one.records.hand_over([entry.claim]) == 1
    eventually(lambda: other.terminations() == [] and other.batch.hears_of_hand_overs())
    assert not other.batch.hears_of_hand_overs()
    assert other.hears_of_hand_overs()
    assert ids(other.batch.reclaim(1)) == [entry.entry_id]


def test_a_cancelled_entry_of_a_batch_lane_is_told(lane: Lane) -> None:
    bulk = lane.other("bulk", is_batch=True)
    stream = ready(lane)
    bulk.add(b"later")
    (entry,) = stream.batch.read(1)
    if isinstance(lane, RedisLane):
        lane.client.xadd(keys.terminations(lane.model, "bulk"), {"entry": entry.entry_id})
    else:
        bulk.cancel(entry.entry_id)
    assert eventually(stream.terminations) == [entry.claim]


@pytest.mark.parametrize("was_batch", [False, True])
def test_a_lane_that_changes_its_kind_loses_nothing(redis_url: str, model_name: str, was_batch: bool) -> None:
    lane = RedisLane(model_name, redis_url)
    field = "bulk:kind"
    bulk = lane.other("bulk", is_batch=was_batch)
    stream = ready(lane)
    before, after = (stream.batch, stream) if was_batch else (stream, stream.batch)
    added = [bulk.add(b"%d" % number) for number in range(4)]
    held = before.read(2)
    if was_batch:
        lane.client.hdel(keys.lanes(model_name), field)
    else:
        lane.client.hset(keys.lanes(model_name), field, "batch")
    stream.heartbeat(card(model_name), {"pid": "1"})
    assert ("bulk" in stream.batch.lanes, "bulk" in stream.lanes) == (not was_batch, was_batch)
    rest = after.read(10)
    assert ids(held) + ids(rest) == added
    assert stream.renew([entry.claim for entry in held]) == []
    assert stream.commit([ended(entry) for entry in held][:1]) == [1]
    lane.close()


def test_default_is_never_a_batch_lane(redis_url: str, model_name: str) -> None:
    lane = RedisLane(model_name, redis_url)
    lane.client.hset(keys.lanes(model_name), "default:kind", "batch")
    stream = ready(lane)
    assert (list(stream.lanes), list(stream.batch.lanes)) == ([MAIN], [])
    lane.close()
