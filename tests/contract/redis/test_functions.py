"""The atomic steps as any client may call them: every argument checked, one bad item never strands the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import redis

from consumer.queue.interface import Completion, Dead, Emission
from shared import keys
from shared.names import NAME_PATTERN
from shared.redis import functions, library

LANE = keys.DEFAULT_LANE
CAP, STREAM_MS, HINT_LIMIT = 100, 60_000, 1024


@dataclass(frozen=True)
class Server:
    """One lane on a real server, and the calls on it."""

    client: redis.Redis
    model: str

    @property
    def work(self) -> str:
        return keys.work(self.model, LANE)

    def call(self, function: str, *arguments: Any, key: str | None = None) -> Any:
        answer: Any = self.client.fcall(function, 1, key or self.work, *arguments)
        return answer

    def send(self, command: functions.Command) -> Any:
        answer: Any = self.client.execute_command(*command)
        return answer

    def heartbeat(self, worker: str = "one", limit: int = 100) -> Any:
        return self.send(functions.heartbeat(self.work, worker, 60_000, limit, {"pid": "1"}, {"name": '"x"'}))

    def admit(self, *items: tuple[Any, Any, Any], limit: Any = 100, me: str = "", cursor: str = "",
              acks: tuple[str, ...] = ()) -> Any:  # fmt: skip
        return self.send(functions.admit(self.work, limit, me, cursor, acks, items))

    def commit(self, *items: tuple[Any, Any, Any, Any, Any]) -> Any:
        flat = [part for item in items for part in item]
        return self.call(functions.COMMIT, CAP, STREAM_MS, HINT_LIMIT, *flat)

    def claim(self, count: int) -> list[bytes]:
        answer: Any = self.client.xreadgroup(keys.GROUP, "one", {self.work: ">"}, count=count)
        return [entry_id for entry_id, _ in answer[0][1]] if answer else []

    def admitted(self, *ids: str) -> list[bytes]:
        self.admit(*((request_id, "0", b"message") for request_id in ids))
        return self.claim(len(ids))

    def reply(self, request_id: str) -> Any:
        found: Any = self.client.lrange(keys.reply(self.model, LANE, request_id), 0, -1)
        return found

    def pending(self) -> int:
        found: Any = self.client.xpending(self.work, keys.GROUP)
        return int(found["pending"])


def test_every_function_takes_what_its_encoder_makes(server: Server) -> None:
    """On an entry that is not under way, with an id that has no reply."""
    work, one = server.work, Completion(b"1-1", "a", "me", 1000, b"reply")
    said = {"lane_bytes": "7000", "kept_bytes": "9000"}
    assert server.send(functions.heartbeat(work, "one", 60_000, 100, said, {}))[1:] == [0]
    calls: list[tuple[functions.Command, Any]] = [
        (functions.version(work), library.VERSION),
        (functions.ask(work, "a", "b"), [b"unknown", b"unknown"]),
        (functions.lane_bytes(work), [0, 0, 7_000, 0, 0, 0, 0]),
        (functions.commit(work, 1000, [one, one]), [0, 0]),
        (functions.answered(work, 1000, [one]), [0]),
        (functions.dead(work, 1000, [Dead(one, "It crashed.", 2)]), [0]),
        (functions.requeue(work, [("1-1", "a"), (b"2-1", "")]), [b"gone", b"gone"]),
        (functions.requeue_within(work, 9, ["1-1"]), [0, b"gone"]),
        (functions.letters(work, "+", 9, newest_first=True), [0]),
        (functions.renew(work, "one", [b"1-1", b"2-1"]), [b"1-1", b"2-1"]),
        (functions.reclaim(work, "one", 1000, 10), []),
        (functions.claimed(work, "one", "0-0", 10), [b""]),
        (functions.begin(work, "one", b"1-1", 2), 0),
        (functions.reap(work, 1000), 0),
        (functions.lanes(work), [b"default", b"100"]),
        (functions.cancel(work, [("a", ""), ("b", b"1-1")], tell=True), [b"unknown", b"unknown"]),
        (functions.admit(work, 0, "me", "0-0", ["b"], [("a", functions.check(9, 9, "print"), b"m")]), [0, b"full"]),
        (functions.later(work, 0, [("c", "1", 9, 9, "print", b"r", "", b"m")]), [0, b"full"]),
        (functions.job(work, "a"), [[]]),
        (functions.line(work), [0, 0, b"0-0", 0, 9_000]),
        (functions.bulk_open(work, "b", 1, 1000, {"state": "receiving", "hook": "{}"}), b"opened"),
        (functions.bulk_save(work, "b", "1", 0, "000-1 9 0-5", {"state": "queued"}), b"queued"),
        (functions.bulk_save(work, "b", "0", 0, "", {}), b"lost"),
        (functions.bulk_claim(work, 1000), [work.rpartition(":")[2].encode(), b"b", b"2"]),
        (functions.bulk_cancel(work, "b"), b"queued"),
        (functions.bulk_forget(work, "b", "2"), 1),
        (functions.webhook_event(work, "a", "request.failed", "", '{"code": "crashed"}'), [0]),
        (functions.webhook_room(work), 1),
        (step(work, b"ab", 0), [0, 0]),
        (functions.webhook_retry(work, ["1-1"]), [b"gone"]),
        (functions.overdue(work, 10), [0, 0, 0]),
        (functions.emit(work, "one", 1000, [Emission(b"1-1", "a", "me", 1000, 0, b"frame")]), [0]),
        (functions.hand_over(work, "one", 1000, [b"1-1"]), 0),
        (functions.repair(work, 10, 1000), [0, 0]),
        (functions.repair(work, 10), [0, 0]),
        (functions.leave(work, "one"), 0),
    ]
    assert [(command[1], server.send(command)) for command, _ in calls] == [(made[1], said) for made, said in calls]
    assert {command[1] for command, _ in calls} == {*library.names()} - {functions.HEARTBEAT, functions.WEBHOOK_CLAIM}
    assert server.send(functions.webhook_claim(work, 1000, 10))[1:3] == [0, 0]


def step(work: str, host: bytes, token: int) -> functions.Command:
    """One webhook of a host whose lease is over."""
    ends = [("request:a", "msg_1", "again", 1000, "503")]
    return functions.webhook_step(
        work, host, token, lease_ms=1000, longest_ms=9000, count=1, pause_ms=None, busy=["request:b"], ends=ends
    )


BAD_KEYS = (
    "work",
    "hr:{m}:r:default:a",
    "hr:{m}:q:",
    "hr:{m}:q:a:b",
    "hr:m:q:default",
    "hr:{a}b}:q:default",
    "x:{m}:q:d",
)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_is_no_work_stream_is_refused(server: Server, key: str) -> None:
    calls: list[tuple[Any, ...]] = [
        (functions.ADMIT, 100, "", "", 0, 1, "a", "0", "message"),
        (functions.COMMIT, CAP, STREAM_MS, HINT_LIMIT),
        (functions.HEARTBEAT, "one", 1000, 100, 0),
        (functions.LEAVE, "one"),
        (functions.LANES,),
        (functions.REPAIR, 1),
    ]
    for call in calls:
        with pytest.raises(redis.ResponseError, match=r"KEYS\[1\] must be hr:\{model\}:q:lane"):
            server.call(*call, key=key)
    assert server.client.exists(key) == 0


@pytest.mark.parametrize(
    "call",
    [
        (functions.ADMIT,),
        (functions.ADMIT, 100, "", "", 0),
        (functions.ADMIT, 100, "", "", 0, 1),
        (functions.ADMIT, 100, "", "", 0, 1, "a", "0"),
        (functions.ADMIT, 100, "", "", 0, 1, "a", "0", "m", "extra"),
        (functions.ADMIT, 100, "", "", 1, 1, "a", "0", "m"),
        (functions.ADMIT, -1, "", "", 0, 1, "a", "0", "m"),
        (functions.ADMIT, "many", "", "", 0, 1, "a", "0", "m"),
        (functions.ADMIT, "1.5", "", "", 0, 1, "a", "0", "m"),
        (functions.ADMIT, "nan", "", "", 0, 1, "a", "0", "m"),
        (functions.ADMIT, 100, "", "", -1, 1, "a", "0", "m"),
        (functions.COMMIT,),
        (functions.COMMIT, CAP, STREAM_MS),
        (functions.COMMIT, CAP, STREAM_MS, "large"),
        (functions.COMMIT, CAP, STREAM_MS, HINT_LIMIT, "1-0"),
        (functions.COMMIT, CAP, STREAM_MS, HINT_LIMIT, "1-0", "a", "", 1000, "reply", "extra"),
        (functions.HEARTBEAT,),
        (functions.HEARTBEAT, "one"),
        (functions.HEARTBEAT, "o}ne", 1000, 100, 0),
        (functions.HEARTBEAT, "one", "soon", 100, 0),
        (functions.HEARTBEAT, "one", 1000, 100, 1, "pid"),
        (functions.HEARTBEAT, "one", 1000, 100, 4, "pid", "1"),
        (functions.LEAVE,),
        (functions.LEAVE, ""),
        (functions.LEAVE, "one", "two"),
        (functions.REQUEUE, "1-1"),
        (functions.LANES, "extra"),
        (functions.REPAIR,),
        (functions.REPAIR, "many"),
        (functions.REPAIR, 1, "soon"),
        (functions.REPAIR, 1, 2, 3),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(server: Server, call: tuple[Any, ...]) -> None:
    with pytest.raises(redis.ResponseError, match="wrong arguments"):
        server.call(*call)
    assert server.client.xlen(server.work) == 0


def test_numbers_that_no_key_could_live_for_are_refused(server: Server) -> None:
    (entry_id,) = server.admitted("a")
    for expiry in ("inf", "1e300", "9" * 30):
        (status,) = server.commit((entry_id, "a", "", expiry, b"reply"))
        assert status == b"error malformed item"
    assert server.reply("a") == []
    assert server.pending() == 1


def test_a_heartbeat_with_half_a_card_is_refused(server: Server) -> None:
    with pytest.raises(redis.ResponseError, match="wrong arguments"):
        server.call(functions.HEARTBEAT, "two", 60_000, 100, 2, "pid", "1", "name")
    assert server.client.zscore(keys.workers(server.model), "two") is None


# --- admit ---------------------------------------------------------------------------------------------------------


def test_admitted_requests_stand_in_the_stream_under_the_field_m(server: Server) -> None:
    length, first, second = server.admit(("a", "0", b"one"), ("b", "1", b"two"))
    assert length == 2
    assert server.client.xrange(server.work) == [(first, {b"m": b"one"}), (second, {b"m": b"two"})]


def test_a_message_passes_through_unchanged(server: Server) -> None:
    message = bytes(range(256)) * 3
    _, entry_id = server.admit(("a", "0", message))
    assert server.client.xrange(server.work) == [(entry_id, {b"m": message})]


def test_a_lane_fills_to_its_limit_and_no_further(server: Server) -> None:
    answer = server.admit(*((f"r{number}", "0", b"m") for number in range(5)), limit=3)
    assert answer[0] == 3
    assert [status == b"full" for status in answer[1:]] == [False, False, False, True, True]
    assert server.admit(("r6", "0", b"m"), limit=3) == [3, b"full"]
    assert server.client.xlen(server.work) == 3


def test_a_limit_of_zero_admits_nobody(server: Server) -> None:
    assert server.admit(("a", "0", b"m"), limit=0) == [0, b"full"]


def test_one_bad_id_never_strands_the_others(server: Server) -> None:
    bad = ("", "with space", "br}ace", "co:lon", "ü", "x" * 65, "nul\0", "new\n")
    answer = server.admit(("before", "0", b"m"), *((one, "0", b"m") for one in bad), ("after", "0", b"m"))
    assert answer[0] == 2
    assert answer[2:-1] == [b"error the id is not a valid name"] * len(bad)
    assert b"-" in answer[1]
    assert b"-" in answer[-1]


def test_ids_of_every_allowed_letter_and_length_are_admitted(server: Server) -> None:
    assert NAME_PATTERN == "[A-Za-z0-9_-]{1,64}"
    length, *statuses = server.admit(("a", "0", b"m"), ("_-09azAZ", "0", b"m"), ("x" * 64, "0", b"m"))
    assert length == 3
    assert all(b"-" in status for status in statuses)


def test_an_answered_id_is_not_admitted_again_when_it_is_to_be_checked(server: Server) -> None:
    (entry_id,) = server.admitted("a")
    server.commit((entry_id, "a", "", 60_000, b"reply"))
    assert server.admit(("a", "1", b"m")) == [0, b"answered"]
    length, status = server.admit(("a", "0", b"m"))
    assert length == 1
    assert b"-" in status


def test_an_answered_id_is_told_so_even_when_the_lane_is_full(server: Server) -> None:
    (entry_id,) = server.admitted("a")
    server.commit((entry_id, "a", "", 60_000, b"reply"))
    assert server.admit(("a", "1", b"m"), limit=0) == [0, b"answered"]


def test_without_a_stream_nothing_is_admitted(server: Server) -> None:
    server.client.unlink(server.work)
    assert server.admit(("a", "0", b"m")) == [0, b"absent"]
    assert server.client.exists(server.work) == 0


def test_acknowledged_replies_are_deleted(server: Server) -> None:
    for request_id, entry_id in zip("abc", server.admitted(*"abc"), strict=True):
        server.commit((entry_id, request_id, "", 60_000, b"reply"))
    server.admit(acks=("a", "not a name", "c"))
    assert [server.reply(request_id) for request_id in "abc"] == [[], [b"reply"], []]


def test_an_acknowledgement_cannot_reach_another_key(server: Server) -> None:
    other = f"hr:{{{server.model}}}:r:{LANE}:x:y"
    server.client.set(other, "1")
    server.admit(acks=("x:y",))
    assert server.client.exists(other) == 1


def test_the_reply_stream_is_trimmed_to_the_cursor(server: Server) -> None:
    entry_ids = server.admitted(*"abc")
    server.commit(*((entry_id, name, "me", 60_000, b"r") for entry_id, name in zip(entry_ids, "abc", strict=True)))
    stream = keys.reply_stream(server.model, LANE, "me")
    hints: Any = server.client.xrange(stream)
    server.admit(me="me", cursor=hints[1][0])
    left: Any = server.client.xrange(stream)
    assert [fields[b"id"] for _, fields in left] == [b"b", b"c"]


def test_a_bad_cursor_or_instance_harms_nothing(server: Server) -> None:
    for me, cursor in (("me", "not-an-id"), ("m}e", "5-0"), ("me", "")):
        assert server.admit(("a", "0", b"m"), me=me, cursor=cursor)[0] > 0


# --- commit --------------------------------------------------------------------------------------------------------


def test_one_bad_item_never_strands_its_batchmates(server: Server) -> None:
    good, bad_id, bad_expiry, bad_instance, last = server.admitted("a", "b", "c", "d", "e")
    statuses = server.commit(
        (good, "a", "", 60_000, b"r"),
        (bad_id, "b}", "", 60_000, b"r"),
        (bad_expiry, "c", "", "soon", b"r"),
        (bad_instance, "d", "m:e", 60_000, b"r"),
        ("not-an-entry", "x", "", 60_000, b"r"),
        ("1-1", "y", "", 60_000, b"r"),
        (last, "e", "me", 60_000, b"r"),
    )
    assert statuses[0] == statuses[6] == 1
    assert statuses[1:4] == [b"error malformed item"] * 3
    assert statuses[4].startswith(b"error")
    assert statuses[5] == 0
    assert [server.reply(name) for name in "abcdexy"] == [[b"r"], [], [], [], [b"r"], [], []]
    assert server.pending() == 3


def test_a_reply_stream_that_is_none_strands_nobody(server: Server) -> None:
    first, second = server.admitted("a", "b")
    server.client.set(keys.reply_stream(server.model, LANE, "me"), "not a stream")
    statuses = server.commit((first, "a", "me", 60_000, b"r"), (second, "b", "", 60_000, b"r"))
    assert statuses[0].startswith(b"error")
    assert statuses[1] == 1
    assert [server.reply("a"), server.reply("b")] == [[b"r"], [b"r"]]
    assert server.client.xlen(server.work) == 0


def test_the_same_entry_twice_in_a_call_is_answered_once(server: Server) -> None:
    (entry_id,) = server.admitted("a")
    assert server.commit((entry_id, "a", "", 60_000, b"1"), (entry_id, "a", "", 60_000, b"2")) == [1, 0]
    assert server.reply("a") == [b"1"]


def test_a_popped_reply_is_not_stored_again(server: Server) -> None:
    (entry_id,) = server.admitted("a")
    server.commit((entry_id, "a", "", 60_000, b"1"))
    assert server.client.lpop(keys.reply(server.model, LANE, "a")) == b"1"
    assert server.commit((entry_id, "a", "", 60_000, b"2")) == [0]
    assert server.reply("a") == []


def test_reply_and_reply_stream_expire(server: Server) -> None:
    (entry_id,) = server.admitted("a")
    server.commit((entry_id, "a", "me", 60_000, b"r"))
    left_ms: Any = server.client.pttl(keys.reply(server.model, LANE, "a"))
    stream_ms: Any = server.client.pttl(keys.reply_stream(server.model, LANE, "me"))
    assert 0 < left_ms <= 60_000
    assert 0 < stream_ms <= STREAM_MS


def test_a_reply_stream_is_capped(server: Server) -> None:
    server.client.config_set("stream-node-max-entries", 10)
    try:
        for start in range(0, 400, 100):
            ids = [f"r{number}" for number in range(start, start + 100)]
            entry_ids = server.admitted(*ids)
            server.commit(*((entry, name, "me", 60_000, b"r") for entry, name in zip(entry_ids, ids, strict=True)))
    finally:
        server.client.config_set("stream-node-max-entries", 100)
    length: Any = server.client.xlen(keys.reply_stream(server.model, LANE, "me"))
    assert CAP <= length <= CAP + 10


def test_commit_of_nothing_is_nothing(server: Server) -> None:
    assert server.commit() == []


# --- heartbeat and leave -------------------------------------------------------------------------------------------


def test_a_heartbeat_answers_with_the_time_and_the_length(server: Server) -> None:
    server.admit(("a", "0", b"m"))
    clock: Any = server.client.time()
    now_ms, length = server.heartbeat()
    assert now_ms >= clock[0] * 1000
    assert length == 1


def test_a_heartbeat_forgets_workers_that_are_long_silent(server: Server) -> None:
    server.client.zadd(keys.workers(server.model), {"ghost": 1})
    server.heartbeat()
    assert server.client.zrange(keys.workers(server.model), 0, -1) == [b"one"]


def test_a_heartbeat_notes_the_limit_of_the_lane(server: Server) -> None:
    server.heartbeat(limit=7)
    assert server.client.hgetall(keys.lanes(server.model)) == {b"default": b"7"}


def test_a_worker_hash_expires_and_the_card_stays(server: Server) -> None:
    left_ms: Any = server.client.pttl(keys.worker(server.model, "one"))
    assert 0 < left_ms <= 60_000
    assert server.client.pttl(keys.card(server.model)) == -1


def test_leaving_tells_how_much_is_pending(server: Server) -> None:
    server.admitted("a")
    assert server.call(functions.LEAVE, "one") == 1
    assert server.call(functions.LEAVE, "nobody") == 0


def test_on_a_full_server_admit_is_refused_and_everything_else_works(server: Server) -> None:
    (entry_id,) = server.admitted("a")
    used: Any = server.client.info("memory")["used_memory"]
    before: Any = server.client.config_get("maxmemory")["maxmemory"]
    server.client.config_set("maxmemory", max(1, used // 2))
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            server.admit(("b", "0", b"m"))
        server.heartbeat()
        assert server.commit((entry_id, "a", "me", 60_000, b"r")) == [1]
    finally:
        server.client.config_set("maxmemory", before)
    assert server.reply("a") == [b"r"]
    assert server.admit(("b", "0", b"m"))[0] == 1


def test_the_list_of_workers_ends_with_the_last_of_them(server: Server) -> None:
    left_ms: Any = server.client.pttl(keys.workers(server.model))
    assert 0 < left_ms <= 60_000


def test_only_an_end_that_is_not_stored_names_its_entry(server: Server) -> None:
    first, second = server.admitted("a", "b")
    server.commit((first, "a", "me", 0, b"late"), (second, "b", "me", 1000, b"reply"))
    hints: Any = server.client.xrange(keys.reply_stream(server.model, LANE, "me"))
    assert [fields for _, fields in hints] == [
        {b"id": b"a", b"reply": b"late", b"entry": first},
        {b"id": b"b", b"reply": b"reply"},
    ]


def test_the_oldest_dead_letters_make_room(server: Server) -> None:
    """Two bounds, letters and bytes; what is bigger than the second alone is kept alone."""
    server.heartbeat()
    place = keys.dead_letters(server.model, LANE)

    def bury(size: int, most: int, most_bytes: int) -> list[int]:
        server.admit(("a", "0", bytes(size)))
        (entry,) = server.claim(1)
        item = (entry, "", "", 0, b"", "reason", 0)
        assert server.call(functions.DEAD, CAP, STREAM_MS, HINT_LIMIT, most, most_bytes, *item) == [1]
        kept: Any = server.client.xrange(place)
        return [len(letter[b"m"]) for _, letter in kept]

    assert bury(100, 3, 1000) == [100]
    assert bury(101, 3, 1000) == [100, 101]
    assert bury(102, 3, 1000) == [100, 101, 102]
    assert bury(103, 3, 1000) == [101, 102, 103]
    assert bury(700, 9, 1000) == [102, 103, 700]
    assert bury(5000, 9, 1000) == [5000]
    assert bury(10, 9, 1000) == [10]


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (functions.RENEW, ()),
        (functions.RENEW, ("a}b",)),
        (functions.RECLAIM, ("one", -1, 1)),
        (functions.RECLAIM, ("one", 1)),
        (functions.CLAIMED, ("one", "x", 1)),
        (functions.BEGIN, ("one", "1-0", "x")),
        (functions.BEGIN, ("one", "x", 2)),
        (functions.DEAD, (1, 1, 1, 1)),
        (functions.DEAD, (1, 1, 1, 1, 1, "1-0")),
        (functions.REAP, ("x",)),
    ],
)
def test_wrong_arguments_of_the_lease_steps_are_refused(
    server: Server, function: str, arguments: tuple[Any, ...]
) -> None:
    server.heartbeat()
    with pytest.raises(redis.ResponseError, match="wrong arguments"):
        server.call(function, *arguments)


def test_a_bad_dead_letter_does_not_strand_the_others(server: Server) -> None:
    server.heartbeat()
    (entry,) = server.admitted("a")
    good = (entry, "a", "", 1000, b"reply", "reason", 2)
    bad = ("x", "a", "", 1000, b"reply", "reason", 2)
    bounds = (CAP, STREAM_MS, HINT_LIMIT, 10, 1000)
    assert server.call(functions.DEAD, *bounds, *bad, *good) == [b"error malformed item", 1]
    assert server.reply("a") == [b"reply"]


def test_a_request_whose_letter_cannot_be_kept_ends_all_the_same(server: Server) -> None:
    """It was acknowledged, stayed in the lane for ever, and its sender heard nothing."""
    entry, unreadable = server.admitted("a", "b")
    server.client.set(keys.dead_letters(server.model, LANE), "no stream")
    letters = (entry, "a", "me", 1000, b"reply", "reason", 2, unreadable, "", "", 0, b"", "reason", 0)
    statuses = server.call(functions.DEAD, CAP, STREAM_MS, HINT_LIMIT, 10, 1000, *letters)
    assert [status.partition(b"WRONGTYPE")[:2] for status in statuses] == [
        (b"error adding the dead letter: ", b"WRONGTYPE")
    ] * 2
    assert (server.pending(), server.client.xlen(server.work)) == (0, 0)
    assert server.reply("a") == [b"reply"]
    hints: Any = server.client.xrange(keys.reply_stream(server.model, LANE, "me"))
    assert [hint for _, hint in hints] == [{b"id": b"a", b"reply": b"reply"}]


# --- requeue -------------------------------------------------------------------------------------------------------


def test_a_letter_goes_back_once_and_a_bad_one_strands_nobody(server: Server) -> None:
    place = keys.dead_letters(server.model, LANE)
    letter: Any = server.client.xadd(place, {"reason": "crashed", "m": b"message"})
    empty: Any = server.client.xadd(place, {"reason": "no message"})
    items = ("1-1", "a", letter, "b}", empty, "c", "nothing", "d", letter, "e", letter, "")
    answer = server.call(functions.REQUEUE, *items)
    gone, bad_id, no_message, no_entry, entry, again = answer
    assert (gone, again) == (b"gone", b"gone")
    assert bad_id == no_entry == b"error malformed item"
    assert no_message == b"error the letter has no message"
    assert server.client.xrange(server.work) == [(entry, {b"m": b"message"})]
    assert server.client.xlen(place) == 1
    assert int(entry.partition(b"-")[0]) >= int(letter.partition(b"-")[0])


def test_a_letter_goes_back_on_a_server_that_is_full(server: Server) -> None:
    letter: Any = server.client.xadd(keys.dead_letters(server.model, LANE), {"m": b"message"})
    limit: Any = server.client.config_get("maxmemory")
    server.client.config_set("maxmemory", "1mb")
    try:
        [entry] = server.call(functions.REQUEUE, letter, "a")
    finally:
        server.client.config_set("maxmemory", limit["maxmemory"])
    assert b"-" in entry


def test_what_others_left_in_the_place_of_an_id_strands_nobody(server: Server) -> None:
    server.heartbeat()
    server.client.rpush(keys.flight(server.model, LANE, "list"), "x")
    server.client.set(keys.flight(server.model, LANE, "huge"), f"{10**30}-1 {10**15} ")
    check = "1:1000:5000:"
    length, *statuses = server.admit(*((name, check, b"m") for name in ("first", "list", "huge", "last")))
    assert length == 2
    assert [status.partition(b" ")[0] for status in statuses[1:3]] == [b"error", b"error"]
    assert server.client.xlen(server.work) == 2


def test_a_bound_of_no_dead_letters_is_refused_before_anything_is_written(server: Server) -> None:
    server.heartbeat()
    (entry,) = server.admitted("a")
    with pytest.raises(redis.ResponseError, match="wrong arguments"):
        server.call(functions.DEAD, CAP, STREAM_MS, HINT_LIMIT, 0, 100, entry, "a", "", 1000, b"reply", "why", 0)
    assert server.pending() == 1


def test_what_is_held_ends_with_the_highest_id_there_is(server: Server) -> None:
    """Its lane's producer may write it; a consumer that lost a connection asked for what lies behind it, for ever."""
    server.heartbeat()
    highest = f"{2**64 - 1}-{2**64 - 1}"
    server.client.xadd(server.work, {"m": b"x"}, id=highest)
    assert server.claim(1) == [highest.encode()]
    last, *rows = server.call(functions.CLAIMED, "one", "0-0", 10)
    assert (last, len(rows)) == (highest.encode(), 1)
    assert server.call(functions.CLAIMED, "one", last, 10) == [b""]
