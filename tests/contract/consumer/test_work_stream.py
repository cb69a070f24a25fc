"""What every work stream promises a consumer, held against the one in memory and the one on real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from consumer.queue.interface import Completion, Dead, StreamDown, StreamGone, WorkStream
from shared import keys
from shared.limits import HINT_LIMIT_BYTES
from shared.redis import library
from shared.state.cards import from_hash
from shared.state.desired_state import DesiredPrecision, Serving
from tests.contract.lanes import Lane, RedisLane, card
from tests.helpers import eventually

SHORT_LEASE_MS = 500
KEPT_MS = 60_000
MAIN = keys.DEFAULT_LANE


def ready(lane: Lane, worker: str = "one", lease_ms: int = 15_000) -> WorkStream:
    stream = lane.stream(worker, lease_ms)
    stream.heartbeat(card(lane.model), {"pid": "1"})
    return stream


def added(lane: Lane, message: bytes = b"message") -> bytes:
    entry_id = lane.add(message)
    assert entry_id is not None
    return entry_id


def ended(
    entry_id: bytes, request_id: str = "a", reply: bytes = b"reply", *, to: str = "", kept_ms: int = KEPT_MS
) -> Completion:
    return Completion(entry_id, request_id, to, kept_ms, reply)


def test_entries_are_read_in_order_with_their_time(lane: Lane) -> None:
    stream = ready(lane)
    ids = [added(lane, b"message %d" % number) for number in range(5)]
    entries = stream.read(3) + stream.read(3)
    assert [entry.entry_id for entry in entries] == ids
    assert [entry.message for entry in entries] == [b"message %d" % number for number in range(5)]
    assert [entry.added_ms for entry in entries] == [int(entry_id.split(b"-")[0]) for entry_id in ids]
    assert {entry.attempt for entry in entries} == {1}


def test_a_read_takes_at_most_what_was_asked_for(lane: Lane) -> None:
    stream = ready(lane)
    for _ in range(4):
        added(lane)
    assert len(stream.read(3)) == 3
    assert len(stream.read(3)) == 1


def test_a_read_of_an_empty_stream_returns_nothing_in_bounded_time(lane: Lane) -> None:
    assert ready(lane, lease_ms=SHORT_LEASE_MS).read(1) == []


def test_a_read_that_does_not_wait(lane: Lane) -> None:
    """One that does would take a second each time, and the test longer than it may."""
    stream = ready(lane)
    assert [stream.read(1, wait=False) for _ in range(100)] == [[]] * 100
    entry_id = added(lane)
    assert [entry.entry_id for entry in stream.read(2, wait=False)] == [entry_id]


def test_no_two_consumers_read_the_same_entry(lane: Lane) -> None:
    one, two = ready(lane, "one"), ready(lane, "two")
    ids = {added(lane) for _ in range(10)}
    first, second = one.read(5), two.read(10)
    read = [entry.entry_id for entry in (*first, *second)]
    assert set(read) == ids
    assert len(read) == 10


def test_an_entry_without_the_field_m_has_no_message(lane: Lane) -> None:
    stream = ready(lane)
    assert lane.add(b"message", field="wrong") is not None
    (entry,) = stream.read(1)
    assert entry.message is None


def test_a_lost_group_is_made_again_at_the_beginning(lane: Lane) -> None:
    stream = ready(lane)
    held, waiting = added(lane), added(lane)
    stream.read(1)
    lane.lose_group()
    with pytest.raises(StreamGone):
        stream.read(1)
    assert stream.commit([ended(held)]) == [0]
    stream.heartbeat(card(lane.model), {})
    assert [entry.entry_id for entry in stream.read(10)] == [held, waiting]


def test_a_commit_stores_the_reply_once_and_removes_the_entry(lane: Lane) -> None:
    stream = ready(lane)
    entry_id = added(lane)
    stream.read(1)
    assert stream.commit([ended(entry_id)]) == [1]
    assert lane.reply("a") == b"reply"
    assert lane.reply_count("a") == 1
    assert lane.reply_expires("a")
    assert lane.length() == 0


def test_a_repeated_commit_changes_nothing(lane: Lane) -> None:
    stream = ready(lane)
    entry_id = added(lane)
    stream.read(1)
    stream.commit([ended(entry_id, reply=b"first")])
    assert stream.commit([ended(entry_id, reply=b"second")]) == [0]
    assert lane.reply("a") == b"first"
    assert lane.reply_count("a") == 1


def test_a_second_entry_with_an_answered_id_keeps_the_first_answer(lane: Lane) -> None:
    stream = ready(lane)
    first, second = added(lane), added(lane)
    stream.read(2)
    assert stream.commit([ended(first, reply=b"first"), ended(second, reply=b"second")]) == [1, 2]
    assert lane.reply("a") == b"first"
    assert lane.reply_count("a") == 1
    assert lane.length() == 0


def test_committing_and_reading_in_one_step(lane: Lane) -> None:
    stream = ready(lane)
    first, second = added(lane), added(lane)
    stream.read(1)
    seen: list[bytes | None] = []
    entries = stream.commit_and_read([ended(first)], lambda: seen.append(lane.reply("a")), 5)
    assert seen == [b"reply"]
    assert [(entry.entry_id, entry.attempt) for entry in entries] == [(second, 1)]
    assert lane.length() == 1
    assert stream.commit([ended(first, reply=b"again")]) == [0]


def test_the_commit_does_not_wait_for_the_read(lane: Lane) -> None:
    stream = ready(lane, lease_ms=SHORT_LEASE_MS)
    first = added(lane)
    stream.read(1)
    committed: list[bool] = []
    assert stream.commit_and_read([ended(first)], lambda: committed.append(True), 1) == []
    assert committed == [True]
    assert lane.reply("a") == b"reply"


def test_committing_and_reading_what_another_has_taken_over(lane: Lane) -> None:
    slow, fast = ready(lane, "slow", SHORT_LEASE_MS), ready(lane, "fast", SHORT_LEASE_MS)
    entry_id = added(lane)
    slow.read(1)
    eventually(lambda: fast.reclaim(1))
    fast.commit([ended(entry_id, reply=b"fast")])
    committed: list[bool] = []
    assert slow.commit_and_read([ended(entry_id, reply=b"slow")], lambda: committed.append(True), 1) == []
    assert committed == [True]
    assert lane.reply("a") == b"fast"


def test_committing_and_reading_without_a_group(lane: Lane) -> None:
    stream = ready(lane)
    held = added(lane)
    stream.read(1)
    lane.lose_group()
    committed: list[bool] = []
    with pytest.raises(StreamGone):
        stream.commit_and_read([ended(held)], lambda: committed.append(True), 1)
    assert committed == [True]  # repeating it would change nothing
    stream.heartbeat(card(lane.model), {})
    (again,) = stream.read(5)
    assert again.entry_id == held
    assert stream.commit_and_read([ended(held)], lambda: committed.append(True), 1) == []
    assert lane.reply("a") == b"reply"


def test_an_expiry_of_zero_stores_nothing_but_hints(lane: Lane) -> None:
    stream = ready(lane)
    entry_id = added(lane)
    stream.read(1)
    assert stream.commit([ended(entry_id, to="me", kept_ms=0)]) == [1]
    assert lane.reply("a") is None
    assert lane.hints("me") == [("a", b"reply")]
    assert lane.length() == 0


def test_only_replies_under_the_limit_travel_in_the_hint(lane: Lane) -> None:
    stream = ready(lane)
    small, large = b"s" * (HINT_LIMIT_BYTES - 1), b"l" * HINT_LIMIT_BYTES
    items = [ended(added(lane), "small", small, to="me"), ended(added(lane), "large", large, to="me")]
    stream.read(2)
    assert stream.commit(items) == [1, 1]
    assert lane.hints("me") == [("small", small), ("large", None)]
    assert lane.reply("large") == large


def test_a_hint_goes_out_even_when_nothing_was_stored(lane: Lane) -> None:
    stream = ready(lane)
    entry_id = added(lane)
    stream.read(1)
    stream.commit([ended(entry_id, to="me")])
    assert stream.commit([ended(entry_id, to="me", reply=b"late")]) == [0]
    assert lane.hints("me") == [("a", b"reply"), ("a", None)]


def test_no_hint_without_an_instance(lane: Lane) -> None:
    stream = ready(lane)
    entry_id = added(lane)
    stream.read(1)
    stream.commit([ended(entry_id)])
    assert lane.hints("me") == []


def test_hints_reach_only_their_own_instance(lane: Lane) -> None:
    stream = ready(lane)
    items = [ended(added(lane), name, to=f"to-{name}") for name in ("a", "b")]
    stream.read(2)
    stream.commit(items)
    assert [lane.hints("to-a"), lane.hints("to-b")] == [[("a", b"reply")], [("b", b"reply")]]


def test_abandoned_entries_are_taken_over_after_the_lease(lane: Lane) -> None:
    dead, alive = ready(lane, "dead", SHORT_LEASE_MS), ready(lane, "alive", SHORT_LEASE_MS)
    ids = [added(lane, b"%d" % number) for number in range(3)]
    dead.read(3)
    taken = eventually(lambda: alive.reclaim(10))
    assert [entry.entry_id for entry in taken] == ids
    assert [entry.message for entry in taken] == [b"0", b"1", b"2"]
    assert {entry.attempt for entry in taken} == {2}


def test_entries_within_their_lease_are_left_alone(lane: Lane) -> None:
    busy, other = ready(lane, "busy"), ready(lane, "other")
    added(lane)
    busy.read(1)
    assert other.reclaim(10) == []


def test_two_consumers_take_over_disjoint_sets(lane: Lane) -> None:
    dead = ready(lane, "dead", SHORT_LEASE_MS)
    one, two = ready(lane, "one", SHORT_LEASE_MS), ready(lane, "two", SHORT_LEASE_MS)
    ids = {added(lane) for _ in range(6)}
    dead.read(6)
    first = eventually(lambda: one.reclaim(3))
    second = eventually(lambda: two.reclaim(3))
    assert {entry.entry_id for entry in first} | {entry.entry_id for entry in second} == ids


def test_the_late_commit_of_a_consumer_that_lost_its_entry_is_harmless(lane: Lane) -> None:
    slow, fast = ready(lane, "slow", SHORT_LEASE_MS), ready(lane, "fast", SHORT_LEASE_MS)
    entry_id = added(lane)
    slow.read(1)
    eventually(lambda: fast.reclaim(1))
    assert fast.commit([ended(entry_id, reply=b"fast")]) == [1]
    assert slow.commit([ended(entry_id, reply=b"slow")]) == [0]
    assert lane.reply("a") == b"fast"


def test_an_entry_deleted_while_it_was_held_is_not_taken_over(lane: Lane) -> None:
    dead, alive = ready(lane, "dead", SHORT_LEASE_MS), ready(lane, "alive", SHORT_LEASE_MS)
    gone, kept = added(lane), added(lane)
    dead.read(2)
    lane.delete(gone)
    assert [entry.entry_id for entry in eventually(lambda: alive.reclaim(10))] == [kept]


def test_a_dead_letter_keeps_the_message_and_answers(lane: Lane) -> None:
    stream = ready(lane)
    entry_id = added(lane, b"poison")
    stream.read(1)
    assert stream.dead_letter([Dead(ended(entry_id, to="me"), "It ended 2 consumers.", 2)]) == [1]
    assert lane.dead() == [("It ended 2 consumers.", 2, b"poison")]
    assert lane.reply("a") == b"reply"
    assert lane.hints("me") == [("a", b"reply")]
    assert (lane.length(), stream.depth()["default"].pending) == (0, 0)


def test_burying_again_changes_nothing(lane: Lane) -> None:
    stream = ready(lane)
    entry_id = added(lane, b"poison")
    stream.read(1)
    dead = Dead(ended(entry_id), "reason", 2)
    assert stream.dead_letter([dead]) + stream.dead_letter([dead]) == [1, 0]
    assert stream.commit([ended(entry_id, reply=b"late")]) == [0]
    assert len(lane.dead()) == 1
    assert lane.reply("a") == b"reply"


def test_what_was_answered_meanwhile_does_not_become_a_dead_letter(lane: Lane) -> None:
    stream = ready(lane)
    entry_id = added(lane)
    stream.read(1)
    stream.commit([ended(entry_id)])
    assert stream.dead_letter([Dead(ended(entry_id, reply=b"dead"), "reason", 2)]) == [0]
    assert lane.dead() == []
    assert lane.reply("a") == b"reply"


def test_dead_letters_without_a_readable_id_answer_nobody(lane: Lane) -> None:
    stream = ready(lane)
    ids = [added(lane, b"%d" % number) for number in range(3)]
    stream.read(3)
    assert stream.dead_letter([Dead(Completion(entry_id, "", "", 0, b""), "unreadable", 0) for entry_id in ids]) == [
        1,
        1,
        1,
    ]
    assert [message for _, _, message in lane.dead()] == [b"0", b"1", b"2"]
    assert (lane.length(), stream.depth()["default"].pending) == (0, 0)


def test_a_renewed_lease_does_not_run_out(lane: Lane) -> None:
    """Two entries of one consumer, of which it renews one: it is the other that is taken over, whatever the pace."""
    busy, other = ready(lane, "busy", SHORT_LEASE_MS), ready(lane, "other", SHORT_LEASE_MS)
    kept, left = added(lane), added(lane)
    busy.read(2)

    def taken() -> list[bytes]:
        assert busy.renew([(MAIN, kept)]) == []
        return [entry.entry_id for entry in other.reclaim(10)]

    assert eventually(taken) == [left]


def test_renewing_tells_what_was_lost(lane: Lane) -> None:
    slow, fast = ready(lane, "slow", SHORT_LEASE_MS), ready(lane, "fast", SHORT_LEASE_MS)
    lost, done = added(lane), added(lane)
    slow.read(2)
    slow.commit([ended(done)])
    eventually(lambda: fast.reclaim(1))
    kept = added(lane)
    slow.read(1)
    assert slow.renew([(MAIN, one) for one in (lost, done, kept)]) == [(MAIN, lost), (MAIN, done)]
    assert fast.commit([ended(lost, "lost")]) == [1]


def test_only_deliveries_that_ran_alone_count(lane: Lane) -> None:
    dead, one, two = (ready(lane, name, SHORT_LEASE_MS) for name in ("dead", "one", "two"))
    added(lane)
    dead.read(1)
    (first,) = eventually(lambda: one.reclaim(1))
    (second,) = eventually(lambda: two.reclaim(1))
    assert (first.attempt, second.attempt) == (2, 2)
    assert two.begin_isolated(second)
    (third,) = eventually(lambda: one.reclaim(1))
    assert third.attempt == 3


def test_an_entry_taken_away_again_is_not_begun(lane: Lane) -> None:
    dead, one, two = (ready(lane, name, SHORT_LEASE_MS) for name in ("dead", "one", "two"))
    entry_id = added(lane)
    dead.read(1)
    (entry,) = eventually(lambda: one.reclaim(1))
    eventually(lambda: two.reclaim(1))
    assert not one.begin_isolated(entry)
    two.commit([ended(entry_id)])
    assert not two.begin_isolated(entry)


def test_an_abandoned_entry_is_found_behind_many_that_are_kept(lane: Lane) -> None:
    busy, dead, other = (ready(lane, name, SHORT_LEASE_MS) for name in ("busy", "dead", "other"))
    kept = [added(lane) for _ in range(50)]
    busy.read(50)
    left = added(lane)
    dead.read(1)

    def taken() -> list[bytes]:
        busy.renew([(MAIN, one) for one in kept])
        return [entry.entry_id for entry in other.reclaim(1)]

    assert eventually(taken) == [left]


def test_consumers_that_died_long_ago_leave_the_group(lane: Lane) -> None:
    for number in range(20):
        ready(lane, f"dead-{number}", SHORT_LEASE_MS).read(1)
    holding, alive = ready(lane, "holding", SHORT_LEASE_MS), ready(lane, "alive", SHORT_LEASE_MS)
    added(lane)
    holding.read(1)

    def left() -> bool:
        alive.heartbeat(card(lane.model), {})
        alive.reap()
        return lane.consumers() <= {"holding", "alive"}

    assert eventually(left, limit_s=20.0)
    assert "holding" in lane.consumers()


def test_depth_tells_waiting_from_claimed(lane: Lane) -> None:
    stream = ready(lane)
    for _ in range(5):
        added(lane)
    stream.read(2)
    depth = stream.depth()["default"]
    assert (depth.backlog, depth.pending) == (3, 2)
    assert depth.oldest_age_s >= 0


def test_depth_stays_right_after_the_last_delivered_entry_is_deleted(lane: Lane) -> None:
    stream = ready(lane)
    first = added(lane)
    added(lane)
    stream.read(1)
    stream.commit([ended(first)])
    assert (stream.depth()["default"].backlog, stream.depth()["default"].pending) == (1, 0)


def test_an_empty_lane_has_no_depth(lane: Lane) -> None:
    depth = ready(lane).depth()["default"]
    assert (depth.backlog, depth.pending, depth.oldest_age_s) == (0, 0, 0.0)


def test_without_a_heartbeat_there_is_no_stream_to_read_or_add_to(lane: Lane) -> None:
    assert lane.add(b"message") is None
    with pytest.raises(StreamGone):
        lane.stream("one").read(1)


def test_a_heartbeat_publishes_worker_and_card(lane: Lane) -> None:
    ready(lane)
    assert lane.workers() == {"one"}
    assert from_hash(lane.card_fields()) == card(lane.model)


def test_a_heartbeat_sets_the_clock(lane: Lane) -> None:
    stream = ready(lane)
    before_ms = stream.clock.now_ms()
    entry_id = added(lane)
    (entry,) = stream.read(1)
    # The estimate is wrong by half a round trip at most, and the entry's time is cut to whole milliseconds.
    assert entry.entry_id == entry_id
    assert abs(entry.added_ms - before_ms) <= 1000
    assert stream.clock.now_ms(time.monotonic()) >= before_ms


def test_after_a_flush_a_heartbeat_heals_the_lane(lane: Lane) -> None:
    stream = ready(lane)
    added(lane)
    lane.flush()
    with pytest.raises(StreamGone):
        stream.read(1)
    assert lane.add(b"lost") is None
    stream.heartbeat(card(lane.model), {})
    entry_id = added(lane)
    assert [entry.entry_id for entry in stream.read(1)] == [entry_id]


def test_a_commit_after_a_flush_stores_nothing(lane: Lane) -> None:
    stream = ready(lane)
    entry_id = added(lane)
    stream.read(1)
    lane.flush()
    assert stream.commit([ended(entry_id)]) == [0]
    assert lane.reply("a") is None


def test_a_second_heartbeat_keeps_what_is_pending(lane: Lane) -> None:
    stream = ready(lane)
    added(lane)
    stream.read(1)
    stream.heartbeat(card(lane.model), {})
    assert stream.depth()["default"].pending == 1


def test_leaving_removes_worker_and_consumer(lane: Lane) -> None:
    stream = ready(lane)
    added(lane)
    (entry,) = stream.read(1)
    stream.commit([ended(entry.entry_id)])
    stream.leave()
    assert lane.workers() == set()
    assert lane.consumers() == set()


def test_leaving_with_pending_work_strands_nothing(lane: Lane) -> None:
    stream, other = ready(lane, "one", SHORT_LEASE_MS), ready(lane, "two", SHORT_LEASE_MS)
    entry_id = added(lane)
    stream.read(1)
    stream.leave()
    assert "one" in lane.consumers()
    assert [entry.entry_id for entry in eventually(lambda: other.reclaim(1))] == [entry_id]


def test_a_hundred_restarts_leave_no_consumers_behind(lane: Lane) -> None:
    for number in range(100):
        stream = ready(lane, f"worker-{number}", SHORT_LEASE_MS)
        entry_id = added(lane)
        stream.read(1)
        stream.commit([ended(entry_id, f"r{number}")])
        stream.leave()
        stream.close()
    assert lane.consumers() == set()
    assert lane.workers() == set()


def test_a_wish_is_there_until_the_next(lane: Lane) -> None:
    stream = ready(lane)
    assert stream.desired_precision() is None
    lane.want_precision("bf16", "one")
    assert stream.desired_precision() == stream.desired_precision() == DesiredPrecision("bf16", "one")
    lane.want_precision("bf16", "two")
    assert stream.desired_precision() == DesiredPrecision("bf16", "two")


def test_a_model_is_open_until_an_operator_says_otherwise(lane: Lane) -> None:
    stream = lane.stream("one")
    assert stream.serving() is Serving.OPEN
    lane.want_precision("bf16", "one")
    for serving in (Serving.PAUSED, Serving.DRAINING, Serving.OPEN):
        lane.serve_as(serving)
        assert stream.serving() is serving
    assert stream.desired_precision() == DesiredPrecision("bf16", "one")


def test_a_turn_is_one_workers_until_it_ends_it(lane: Lane) -> None:
    first, second = ready(lane, "one"), ready(lane, "two")
    assert first.take_turn()
    assert first.take_turn()
    assert not second.take_turn()
    second.end_turn()
    assert not second.take_turn()
    first.end_turn()
    assert second.take_turn()


def test_the_turn_of_a_dead_worker_ends_with_its_lease(lane: Lane) -> None:
    dead, alive = ready(lane, "one", SHORT_LEASE_MS), ready(lane, "two", SHORT_LEASE_MS)
    assert dead.take_turn()
    assert not alive.take_turn()
    assert eventually(alive.take_turn)


def test_a_consumer_can_start_while_the_server_is_full(valkey_url: str, model_name: str) -> None:
    lane = RedisLane(model_name, valkey_url)
    ready(lane, "before")
    added(lane)
    allowed: Any = lane.client.config_get("maxmemory")
    lane.client.config_set("maxmemory", 1)
    try:
        assert len(ready(lane, "after").read(1)) == 1
    finally:
        lane.client.config_set("maxmemory", allowed["maxmemory"])
        lane.close()


def test_what_a_lost_answer_had_claimed_is_read_again(valkey_url: str, model_name: str) -> None:
    lane = RedisLane(model_name, valkey_url)
    stream = ready(lane, lease_ms=SHORT_LEASE_MS)
    assert stream.read(1) == []
    ids = [added(lane) for _ in range(3)]
    lane.client.xreadgroup(keys.GROUP, "one", {lane.work: ">"})  # as if the server had answered into a dead connection
    for client in lane.client.client_list():
        if client["cmd"] == "xreadgroup" and client["id"] != str(lane.client.client_id()):
            lane.client.client_kill_filter(_id=client["id"])
    with pytest.raises(StreamDown):
        stream.read(2)
    again = [entry.entry_id for _ in range(3) for entry in stream.read(2)]
    assert again == ids
    fresh = added(lane)
    assert [entry.entry_id for entry in stream.read(2)] == [fresh]
    lane.close()


def test_functions_of_an_older_version_are_replaced_at_the_start(valkey_url: str, model_name: str) -> None:
    lane = RedisLane(model_name, valkey_url)
    old = library.source().replace("return { now, redis.call('XLEN', key.work) }", "return { 1, 2 }")
    lane.client.function_load(old, replace=True)
    assert ready(lane).clock.now_ms() > 1e12
    lane.close()


@pytest.fixture
def real(valkey_url: str, model_name: str) -> Iterator[RedisLane]:
    made = RedisLane(model_name, valkey_url)
    yield made
    made.close()


def test_without_functions_the_read_succeeds_and_the_commit_is_repeated(real: RedisLane) -> None:
    stream = ready(real)
    first, second = added(real), added(real)
    stream.read(1)
    real.client.function_flush()
    committed: list[bool] = []
    entries = stream.commit_and_read([ended(first)], lambda: committed.append(True), 1)
    assert [entry.entry_id for entry in entries] == [second]
    assert committed == []
    assert stream.commit([ended(first)]) == [1]
    assert stream.commit_and_read([ended(second, "b")], lambda: committed.append(True), 1) == []
    assert committed == [True]


def test_a_connection_that_dies_between_the_two_answers(real: RedisLane) -> None:
    stream = ready(real)
    first = added(real)
    stream.read(1)
    committed: list[bool] = []

    def then_kill() -> None:
        committed.append(True)
        kill_readers(real)

    with pytest.raises(StreamDown):
        stream.commit_and_read([ended(first)], then_kill, 1)
    assert committed == [True]
    second = added(real)
    assert [entry.entry_id for _ in range(2) for entry in stream.read(1)] == [second]


def test_after_a_lost_answer_nothing_is_committed_together_with_reading(real: RedisLane) -> None:
    stream = ready(real, lease_ms=SHORT_LEASE_MS)
    first = added(real)
    stream.read(1)
    kill_readers(real)
    committed: list[bool] = []
    with pytest.raises(StreamDown):
        stream.commit_and_read([ended(first)], lambda: committed.append(True), 1)
    assert [entry.entry_id for entry in stream.commit_and_read([ended(first)], lambda: None, 1)] == [first]
    assert committed == []
    assert stream.commit([ended(first)]) == [1]


def test_a_server_that_may_not_be_written_to_is_waited_for(real: RedisLane) -> None:
    stream = ready(real)
    first, second = added(real), added(real)
    stream.read(1)
    committed: list[bool] = []
    real.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StreamDown):
            stream.commit_and_read([ended(first)], lambda: committed.append(True), 1)
        with pytest.raises(StreamDown):
            stream.commit([ended(first)])
    finally:
        real.client.execute_command("REPLICAOF", "NO", "ONE")
    assert committed == []
    assert stream.commit([ended(first)]) == [1]
    assert [entry.entry_id for _ in range(2) for entry in stream.read(1)] == [second]


def kill_readers(lane: RedisLane) -> None:
    """Close the connections that consumers of this server read with."""
    for client in lane.client.client_list():
        if client["cmd"] == "xreadgroup":
            lane.client.client_kill_filter(_id=client["id"])


# --- what ended elsewhere ------------------------------------------------------------------------------------------


def test_a_cancelled_entry_is_told_once_and_is_not_theirs_any_more(lane: Lane) -> None:
    one, two = ready(lane, "one"), ready(lane, "two")
    added(lane)
    (entry,) = one.read(1)
    lane.cancel(entry.entry_id)
    assert one.terminations() == two.terminations() == [entry.claim]
    later = added(lane, b"later")
    lane.cancel(later)
    assert one.terminations() == [(MAIN, later)]
    assert one.renew([entry.claim]) == [entry.claim]
    assert not one.begin_isolated(entry)
    assert one.commit([ended(entry.entry_id)]) == [0]
    assert lane.reply("a") is None
    assert two.reclaim(1) == two.read(1) == []


def test_news_are_waited_for_a_bounded_time(lane: Lane) -> None:
    assert ready(lane, lease_ms=SHORT_LEASE_MS).terminations() == []


def test_what_has_an_answer_already_is_ended_and_its_sender_told_to_look(lane: Lane) -> None:
    stream = ready(lane)
    for _ in range(3):
        added(lane)
    first, second, third = stream.read(3)
    repeats = [ended(second.entry_id, to="me"), ended(third.entry_id, "b", to="me")]
    assert stream.end_answered(repeats) == [False, False]
    stream.commit([ended(first.entry_id, reply=b"first")])
    assert stream.end_answered(repeats) == [True, False]
    assert (lane.reply("a"), lane.reply_count("a"), lane.hints("me")) == (b"first", 1, [("a", None)])
    assert lane.length() == 1
    assert stream.renew([second.claim, third.claim]) == [second.claim]


def test_nothing_to_renew_or_to_commit_holds_up_nobody(lane: Lane) -> None:
    """A connection with nothing to send was taken and never given back."""
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})
    for _ in range(2):
        assert stream.renew([]) == []
        assert stream.commit([]) == []
