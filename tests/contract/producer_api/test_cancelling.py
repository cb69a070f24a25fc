"""Requests that are taken back: the atomic steps on real servers, whatever state a request is in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from consumer.queue import redis_terminations
from consumer.queue.interface import Claim, Completion, Entry, WorkStream
from shared import keys, limits
from shared.redis import functions
from shared.wire.messages import Request, Tensor, decode_request, encode_request
from tests.contract.lanes import LANE, RedisLane, card
from tests.helpers import eventually


@pytest.fixture
def lane(redis_url: str, model_name: str) -> Iterator[RedisLane]:
    made = RedisLane(model_name, redis_url)
    made.stream("one").heartbeat(card(made.model), {})
    yield made
    made.close()


def call(lane: RedisLane, function: str, *arguments: Any) -> Any:
    answer: Any = lane.client.fcall(function, 1, keys.work(lane.model, LANE), *arguments)
    return answer


def message(request_id: str, reply_to: str | None = "me") -> bytes:
    return encode_request(Request(request_id, 20_000, "application/octet-stream", b"x", reply_to=reply_to))


def admit(lane: RedisLane, request_id: str) -> bytes:
    """Put a request with an id of the client's own into the lane; returns its entry."""
    _, entry_id = call(lane, functions.ADMIT, 100, "", "", 0, 1, request_id, "1:20000:60000:", message(request_id))
    assert b"-" in entry_id
    return bytes(entry_id)


def commit(stream: WorkStream, entry: Entry, request_id: str) -> int:
    (status,) = stream.commit([Completion(entry.entry_id, request_id, "me", 60_000, b"reply")])
    return status


def told(lane: RedisLane) -> list[tuple[bytes, bytes]]:
    found: Any = lane.client.xrange(keys.terminations(lane.model, LANE))
    return [(fields[b"id"], fields[b"entry"]) for _, fields in found]


def test_one_that_waits_is_deleted_and_its_id_is_free_again(lane: RedisLane) -> None:
    entry_id = admit(lane, "a")
    assert call(lane, functions.ASK, "a") == [b"queued"]
    assert call(lane, functions.CANCEL, "1", "a", "") == [b"queued"]
    assert lane.length() == 0
    assert told(lane) == [(b"a", entry_id)]
    assert call(lane, functions.ASK, "a") == [b"unknown"]
    assert admit(lane, "a") != entry_id


def test_one_that_is_claimed_is_taken_away_and_its_result_changes_nothing(lane: RedisLane) -> None:
    entry_id = admit(lane, "a")
    stream = lane.stream("one")
    (entry,) = stream.read(1)
    assert call(lane, functions.ASK, "a") == [b"claimed"]
    assert call(lane, functions.CANCEL, "1", "a", "") == [b"claimed"]
    assert told(lane) == [(b"a", entry_id)]
    assert stream.renew([entry.claim]) == [entry.claim]
    assert not stream.begin_isolated(entry)
    assert commit(stream, entry, "a") == 0
    assert lane.reply("a") is None
    again = admit(lane, "a")
    assert call(lane, functions.CANCEL, "1", "a", entry_id) == [b"unknown"]  # that one is over, this one is another
    assert [entry.entry_id for entry in stream.read(1)] == [again]


def test_whoever_waits_is_told_and_nothing_is_stored(lane: RedisLane) -> None:
    entry_id = admit(lane, "a")
    call(lane, functions.CANCEL, "1", "a", "")
    stream = keys.terminations(lane.model, LANE)
    news: Any = lane.client.xrange(stream)
    assert [fields for _, fields in news] == [{b"entry": entry_id, b"id": b"a", b"code": b"cancelled"}]
    left_ms: Any = lane.client.pttl(stream)
    assert left_ms > 0
    assert lane.reply("a") is None


def test_an_answered_one_stays_answered(lane: RedisLane) -> None:
    entry_id = admit(lane, "a")
    stream = lane.stream("one")
    (entry,) = stream.read(1)
    assert commit(stream, entry, "a") == 1
    assert call(lane, functions.ASK, "a") == [b"answered"]
    assert call(lane, functions.CANCEL, "1", "a", "", "a", entry_id) == [b"answered"] * 2
    assert lane.reply("a") == b"reply"
    assert told(lane) == []


def test_what_nobody_waits_for_is_told_to_consumers_alone(lane: RedisLane) -> None:
    stream = lane.stream("one")
    taken = lane.add(message("taken"))
    stream.read(1)
    waits = lane.add(message("waits"))
    assert call(lane, functions.CANCEL, "0", "taken", taken, "waits", waits) == [b"claimed", b"queued"]
    assert told(lane) == [(b"taken", taken)]
    assert lane.length() == 0


def test_one_bad_item_never_strands_the_others(lane: RedisLane) -> None:
    first, last = lane.add(message("a")), lane.add(message("b"))
    bad = ("br}ace", first, "a", "no-entry", "", first, "x" * 65, "")
    statuses = call(lane, functions.CANCEL, "1", "a", first, *bad, "b", last)
    assert (statuses[0], statuses[-1]) == (b"queued", b"queued")
    assert all(status.startswith(b"error") for status in statuses[1:-1])
    assert call(lane, functions.ASK, "br}ace", "a", "") == [b"error the id is not a valid name", b"unknown",
                                                            b"error the id is not a valid name"]  # fmt: skip


@pytest.mark.parametrize("arguments", [(), ("2",), ("1", "a"), ("", "a", ""), ("1", "a", "", "b")])
def test_wrong_arguments_are_refused(lane: RedisLane, arguments: tuple[str, ...]) -> None:
    with pytest.raises(redis.ResponseError, match="wrong arguments"):
        call(lane, functions.CANCEL, *arguments)


def test_without_stream_or_group_nothing_is_known(lane: RedisLane) -> None:
    admit(lane, "a")
    lane.lose_group()
    assert call(lane, functions.ASK, "a") == [b"queued"]
    assert call(lane, functions.CANCEL, "1", "a", "") == [b"queued"]
    lane.flush()
    assert call(lane, functions.CANCEL, "1", "a", "", "b", "1-1") == [b"unknown"] * 2
    assert call(lane, functions.ASK, "a") == [b"unknown"]


def test_asking_writes_nothing(lane: RedisLane) -> None:
    answer: Any = lane.client.execute_command("FCALL_RO", functions.ASK, 1, keys.work(lane.model, LANE), "a")
    assert answer == [b"unknown"]


def test_a_producer_may_tell_the_consumers_by_itself(lane: RedisLane) -> None:
    """As docs/protocol.md says, without functions; the stream is given an end where it has none."""
    place = keys.terminations(lane.model, LANE)
    for entry in (b"1-1", b"2-1"):
        lane.client.xadd(place, {"entry": entry})
    lane.client.xadd(place, {"something": "else", "of": "entry"})
    stream = lane.stream("one")
    assert stream.terminations() == [(LANE, b"1-1"), (LANE, b"2-1")]
    left_ms: Any = lane.client.pttl(place)
    assert 0 < left_ms <= limits.ENDS_MS


def test_the_stream_of_ends_is_kept_small(lane: RedisLane) -> None:
    place = keys.terminations(lane.model, LANE)
    with lane.client.pipeline(transaction=False) as pipe:
        for number in range(limits.ENDS_CAP + 500):
            pipe.xadd(place, {"entry": b"%d-1" % number})
        pipe.execute()
    stream = lane.stream("one")
    heard: list[Claim] = []
    while (LANE, b"%d-1" % (limits.ENDS_CAP + 499)) not in heard[-1:]:  # they are not read all at once
        heard += stream.terminations()
    assert len(heard) >= limits.ENDS_CAP
    length: Any = lane.client.xlen(place)
    assert length <= limits.ENDS_CAP + 200


# --- what has expired at the head of a full lane -------------------------------------------------------------------


def waiting(lane: RedisLane, request_id: str, ttl_ms: int, **parts: Any) -> bytes:
    parts = parts or {"content_type": "application/octet-stream", "body": b"x" * 300}
    entry_id = lane.add(encode_request(Request(request_id, ttl_ms, reply_to="me", **parts)))
    assert entry_id is not None
    return entry_id


def ask_for_room(lane: RedisLane, limit: int) -> Any:
    return call(lane, functions.ADMIT, limit, "", "", 0, 1, "new", "0", message("new"))


def passed(lane: RedisLane, ms: int = 5) -> None:
    """Wait until Redis's clock has gone on by so much."""
    first: Any = lane.client.time()
    eventually(lambda: _ms(lane.client.time()) > _ms(first) + ms)


def _ms(clock: Any) -> float:
    return float(clock[0] * 1000 + clock[1] / 1000)


def test_what_expired_at_the_head_of_a_full_lane_makes_room(lane: RedisLane) -> None:
    tensors = (Tensor("input", "UINT8", (2, 3), b"123456"), Tensor("text", "BYTES", (1,), b"\1\0\0\0x"))
    gone = [
        waiting(lane, "a", 1, inputs=tensors, params={"top_k": 3, "flag": True, "share": 0.5}, traceparent="t"),
        waiting(lane, "b", 2),
    ]
    waiting(lane, "c", 60_000)
    waiting(lane, "behind", 1)
    passed(lane)
    length, status = ask_for_room(lane, 4)
    assert length == 3
    assert b"-" in status
    left: Any = lane.client.xrange(lane.work)
    assert [decode_request(fields[b"m"]).id for _, fields in left] == ["c", "behind", "new"]
    assert told(lane) == [(b"a", gone[0]), (b"b", gone[1])]


def test_while_there_is_room_nothing_is_looked_at(lane: RedisLane) -> None:
    waiting(lane, "a", 1)
    passed(lane)
    assert ask_for_room(lane, 2)[0] == 2
    assert told(lane) == []


def test_what_a_consumer_has_claimed_is_left_to_it(lane: RedisLane) -> None:
    stream = lane.stream("one")
    waiting(lane, "running", 1)
    stream.read(1)
    waiting(lane, "a", 1)
    passed(lane)
    assert ask_for_room(lane, 2)[0] == 2
    assert [request_id for request_id, _ in told(lane)] == [b"a"]
    assert ask_for_room(lane, 1) == [2, b"full"]


def test_only_so_many_are_dropped_in_one_call(lane: RedisLane) -> None:
    for number in range(100):
        waiting(lane, f"r{number}", 1)
    passed(lane)
    assert [ask_for_room(lane, 20)[0] for _ in range(4)] == [68, 36, 5, 6]
    assert len(told(lane)) == 96


@pytest.mark.parametrize(
    "hostile",
    [
        *(b"", b"\xc1", b"\x80", b"x", b"\x91" * 100_000, b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff"),
        *(b"\x82\xa6ttl_ms\xa11\xa2id\x01", b"\x81\xa6ttl_ms\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
        b"\x82\xa1a\xdd\xff\xff\xff\xff" + b"\xc0" * 1_000_000 + b"\xa6ttl_ms\x01",
        b"\x81\xa6ttl_ms\xcd\x01",
        b"\x82\xc4\xff\xa6ttl_ms\x01",
    ],
)
def test_what_cannot_be_read_is_left_to_the_consumers(lane: RedisLane, hostile: bytes) -> None:
    lane.add(hostile)
    passed(lane)
    assert ask_for_room(lane, 1) == [1, b"full"]
    lane.client.xadd(lane.work, {"other": "field"})
    assert ask_for_room(lane, 2) == [2, b"full"]


def test_an_id_from_the_future_is_left_alone(lane: RedisLane) -> None:
    lane.client.xadd(lane.work, {"m": message("a")}, id="18446744073709551615-18446744073709551615")
    assert ask_for_room(lane, 1) == [1, b"full"]
    lane.stream("one").read(1)
    assert ask_for_room(lane, 1) == [1, b"full"]


def test_what_is_no_entry_is_not_kept(lane: RedisLane) -> None:
    place, stream = keys.terminations(lane.model, LANE), lane.stream("one")
    for named in (b"x" * 100_000, b"1-1\n", b"-", b"", b"1", b"1-1 ", b"\xff-1", b"1" * 21 + b"-1"):
        lane.client.xadd(place, {"entry": named})
    lane.client.xadd(place, {"other": "entry", "entry": "3-1"})
    assert stream.terminations() == [(LANE, b"3-1")]


def test_a_backlog_is_heard_of_to_its_end(lane: RedisLane) -> None:
    place, stream = keys.terminations(lane.model, LANE), lane.stream("one")
    with lane.client.pipeline(transaction=False) as pipeline:
        for number in range(250):
            pipeline.xadd(place, {"entry": f"{number + 1}-1"})
        pipeline.execute()
    heard = [claim for _ in range(3) for claim in stream.terminations()]
    assert heard == [(LANE, b"%d-1" % (number + 1)) for number in range(250)]


def test_as_many_honest_ends_as_are_kept_are_far_from_too_large(lane: RedisLane) -> None:
    place = keys.terminations(lane.model, LANE)
    with lane.client.pipeline(transaction=False) as pipeline:
        for _ in range(limits.ENDS_CAP):
            pipeline.xadd(place, {"entry": "1700000000000-100", "id": "x" * 64, "code": "cancelled"})
        pipeline.execute()
    size_bytes: Any = lane.client.memory_usage(place, samples=0)
    assert size_bytes < limits.ENDS_BYTES / 2


def test_a_stream_of_ends_that_is_too_large_is_left_unread_until_it_is_cleared(
    lane: RedisLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_terminations, "WEIGH_S", 0.0)
    loud = lane.other("loud")
    assert isinstance(loud, RedisLane)
    stream = lane.stream("one", 1500)
    stream.heartbeat(card(lane.model), {})
    places = {name: keys.terminations(lane.model, name) for name in (LANE, "loud")}
    lane.client.xadd(places["loud"], {"entry": "1-1"})
    assert stream.terminations() == [("loud", b"1-1")]
    lane.client.xadd(places["loud"], {"noise": bytes(limits.ENDS_BYTES)})
    for place in places.values():
        lane.client.xadd(place, {"entry": "2-1"})
    assert [claim for _ in range(3) for claim in stream.terminations()] == [(LANE, b"2-1")]
    left_ms: Any = lane.client.pttl(places["loud"])
    assert 0 < left_ms <= limits.ENDS_MS
    assert lane.client.execute_command(*functions.repair(loud.work, 10)) == [0, 0]
    assert lane.client.exists(places["loud"]) == 0
    assert stream.terminations() == []
    for place in places.values():
        lane.client.xadd(place, {"entry": "3-1"})
    assert sorted(stream.terminations()) == [(LANE, b"3-1"), ("loud", b"3-1")]


def test_a_large_one_that_is_there_at_the_start_is_not_read_either(lane: RedisLane) -> None:
    lane.client.xadd(keys.terminations(lane.model, LANE), {"noise": bytes(limits.ENDS_BYTES), "entry": "1-1"})
    assert lane.stream("late", 1500).terminations() == []


def test_a_flood_of_ends_is_trimmed_before_it_is_read(lane: RedisLane) -> None:
    place = keys.terminations(lane.model, LANE)
    with lane.client.pipeline(transaction=False) as pipeline:
        for number in range(3 * limits.ENDS_CAP):
            pipeline.xadd(place, {"entry": f"{number + 1}-1"})
        pipeline.execute()
    (first, *_) = lane.stream("one").terminations()
    assert int(first[1].partition(b"-")[0]) > 1.9 * limits.ENDS_CAP
    left: Any = lane.client.xlen(place)
    assert left < 1.1 * limits.ENDS_CAP


def test_a_repair_after_the_clock_was_set_back_leaves_the_ends(lane: RedisLane) -> None:
    """Whoever reads them stands at the newest id: in a new stream what comes next would lie before it."""
    place = keys.terminations(lane.model, LANE)
    lane.client.xadd(place, {"entry": "1-1"})
    lane.client.xadd(keys.work(lane.model, LANE), {"m": message("future")}, id="9999999999999-0")
    assert lane.client.execute_command(*functions.repair(keys.work(lane.model, LANE), 10, 5000)) == [1, 0]
    assert lane.client.exists(place) == 1
