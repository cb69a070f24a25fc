"""What a lane takes in bytes: counted rightly whatever happens, and held to its limit, for that lane only."""

from __future__ import annotations

import math
import random
from typing import Any

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.queue.interface import NO_ROOM, Completion
from shared import keys
from shared.redis import functions
from shared.state import lanes
from shared.state.lanes import LaneBytes, bytes_from
from tests.contract.lanes import Lane, card
from tests.contract.redis.test_functions import Server
from tests.helpers import eventually

MEBIBYTE = 1 << 20
UNIT, OVERHEAD, LOT = 256, 256, 64
LARGE = 100_000


def taken(server: Server, lane: str = "default") -> LaneBytes:
    found = bytes_from(server.call(functions.BYTES, key=keys.work(server.model, lane)))
    assert found is not None
    return found


def units(size: int) -> int:
    """What a reply counts, in units: its bytes and what its key takes, rounded up."""
    return math.ceil((size + OVERHEAD) / UNIT)


def limit(server: Server, count: int, lane: str = "default") -> None:
    server.client.hset(keys.lanes(server.model), lanes.bytes_field(lane), lanes.encode_bytes(count))
    server.call(functions.LANES)


def answer(server: Server, request_id: str, size: int, expiry_ms: int = 60_000, message: bytes = b"m") -> Any:
    _, entry = server.admit((request_id, "1", message))
    if b"-" not in entry:
        return entry
    server.claim(1)
    return server.commit((entry, request_id, "", expiry_ms, bytes(size)))[0]


def test_an_empty_lane_takes_nothing_and_may_take_half_of_the_memory(server: Server) -> None:
    memory: Any = server.client.info("memory")
    assert taken(server) == LaneBytes(0, 0, memory["maxmemory"] // 2 or 512 * MEBIBYTE, 0)


def test_a_worker_may_say_what_lanes_without_a_limit_of_their_own_may_take(server: Server) -> None:
    server.call(functions.HEARTBEAT, "one", 60_000, 100, 2, "lane_bytes", 7 * MEBIBYTE)
    assert taken(server).limit == taken(server, "other").limit == 7 * MEBIBYTE
    limit(server, 3 * MEBIBYTE, "other")
    assert (taken(server).limit, taken(server, "other").limit) == (7 * MEBIBYTE, 3 * MEBIBYTE)


def test_requests_are_counted_however_they_came_and_went(server: Server) -> None:
    sizes = [100_000, 200_000, 400_000]
    for size in sizes[:2]:
        server.client.xadd(server.work, {"m": bytes(size)})
    server.admit(("c", "0", bytes(sizes[2])))
    assert sum(sizes) <= taken(server).queued <= 1.3 * sum(sizes)
    first, second, third = server.claim(3)
    server.call(functions.CANCEL, "0", "b", second)
    assert taken(server).queued <= 1.3 * (sizes[0] + sizes[2])
    server.commit((third, "c", "", 0, b"r"))
    server.call(functions.DEAD, 9, 9000, 99, 10, 10**9, first, "", "", 0, b"", "reason", 1)
    assert taken(server).queued < 10_000


def test_a_lane_full_of_bytes_refuses_and_the_others_do_not(server: Server) -> None:
    """One client with ids of its own and large answers, one request at a time."""
    limit(server, 2 * MEBIBYTE)
    server.client.hset(keys.lanes(server.model), "gold", "100,1")
    server.call(functions.LANES)
    statuses = [answer(server, f"r{number}", 400_000) for number in range(9)]
    assert statuses[:5] == [1] * 5
    assert set(statuses[5:]) <= {b"full"}
    assert taken(server).stored <= 2 * MEBIBYTE
    assert taken(server).expires_s in range(50, 62)
    assert server.admit(("next", "0", bytes(300_000)))[1] == b"full"
    gold: Any = server.call(functions.ADMIT, 100, "", "", 0, 1, "a", "0", bytes(300_000),
                            key=keys.work(server.model, "gold"))  # fmt: skip
    assert b"-" in gold[1]


def test_an_empty_lane_takes_one_of_any_size(server: Server) -> None:
    limit(server, MEBIBYTE)
    _, entry, second = server.admit(("a", "0", bytes(2 * MEBIBYTE)), ("b", "0", b"m"))
    assert (b"-" in entry, second) == (True, b"full")
    server.claim(1)
    assert server.commit((entry, "a", "", 60_000, bytes(2 * MEBIBYTE))) == [1]
    assert answer(server, "c", 10) == b"full"
    server.client.unlink(keys.reply(server.model, "default", "a"))
    assert answer(server, "c", 10) == 1


def test_small_answers_always_have_room_so_that_every_request_can_end(server: Server) -> None:
    limit(server, MEBIBYTE)
    entries = server.admitted(*(f"r{number}" for number in range(4)))
    sizes = (700_000, 700_000, 16_000, 700_000)
    items = [
        (entry, f"r{n}", "", 60_000, bytes(size)) for n, (entry, size) in enumerate(zip(entries, sizes, strict=True))
    ]
    assert server.commit(*items) == [1, b"full", 1, b"full"]
    assert server.pending() == 2
    assert server.commit((entries[1], "r1", "", 0, b"no room"), (entries[3], "r3", "", 0, b"no room")) == [1, 1]
    assert server.client.xlen(server.work) == 0


def test_an_answer_as_large_as_its_request_has_room_in_a_lane_that_is_full_of_requests(server: Server) -> None:
    limit(server, 2 * MEBIBYTE)
    server.admit(*((f"r{number}", "0", bytes(500_000)) for number in range(9)))
    entries = server.claim(9)
    assert len(entries) == 4
    for number, entry in enumerate(entries):
        assert server.commit((entry, f"r{number}", "", 60_000, bytes(490_000))) == [1]


def test_what_expired_and_what_was_deleted_counts_no_more(server: Server) -> None:
    for number in range(3):
        answer(server, f"r{number}", LARGE)
    answer(server, "soon", LARGE, expiry_ms=1)
    assert taken(server).stored == 4 * units(LARGE) * UNIT
    server.client.unlink(keys.reply(server.model, "default", "r0"))
    server.client.blpop(keys.reply(server.model, "default", "r1"))

    def tidied() -> bool:
        server.call(functions.LANES)
        return taken(server).stored == units(LARGE) * UNIT

    eventually(tidied)
    server.client.unlink(keys.reply(server.model, "default", "r2"))
    server.call(functions.LANES)
    assert server.client.exists(keys.stored(server.model, "default")) == 0


def test_an_account_lives_as_long_as_its_last_reply(server: Server) -> None:
    place = keys.stored(server.model, "default")
    for request_id, expiry_ms in (("a", 60_000), ("b", 90_000), ("c", 1_000)):
        answer(server, request_id, LARGE, expiry_ms)
    left_ms: Any = server.client.pttl(place)
    assert 60_000 < left_ms <= 91_000


def test_an_id_that_is_answered_anew_counts_once(server: Server) -> None:
    for size in (LARGE, 2 * LARGE, LARGE, LARGE):
        answer(server, "a", size)
        assert taken(server).stored == units(size) * UNIT
        server.client.unlink(keys.reply(server.model, "default", "a"))


def test_a_letter_that_goes_back_takes_its_reply_along(server: Server) -> None:
    (entry,) = server.admitted("a")
    server.call(functions.DEAD, 9, 9000, 99, 10, 1000, entry, "a", "", 60_000, bytes(LARGE), "reason", 1)
    assert taken(server).stored == units(LARGE) * UNIT
    letter: Any = server.client.xrange(keys.dead_letters(server.model, "default"))
    server.call(functions.REQUEUE, letter[0][0], "a")
    assert taken(server).stored == 0


def test_an_account_that_is_wrong_or_is_none_strands_nobody_and_mends_itself(server: Server) -> None:
    place = keys.stored(server.model, "default")
    server.client.set(place, "not a set")
    assert answer(server, "a", LARGE) == 1
    server.client.unlink(place)
    server.client.zadd(place, {"": 2**40})  # a sum without anything behind it
    assert taken(server).stored == 2**40 * UNIT
    assert answer(server, "b", LARGE) == 1
    server.client.unlink(keys.reply(server.model, "default", "b"))
    server.call(functions.LANES)
    assert taken(server).stored == 0
    server.client.flushdb()
    server.heartbeat()
    assert answer(server, "c", LARGE) == 1
    assert taken(server).stored == units(LARGE) * UNIT


def test_small_replies_are_counted_by_lot_and_rightly_on_the_average(server: Server) -> None:
    """Each has its chance: the sum of so many is off by a tenth once in a million times."""
    size, count = 8_000, 3000
    for start in range(0, count, 100):
        ids = [f"r{number}" for number in range(start, start + 100)]
        entries = server.admitted(*ids)
        server.commit(*((entry, name, "", 60_000, bytes(size)) for entry, name in zip(entries, ids, strict=True)))
    expected = count * units(size) * UNIT
    assert abs(taken(server).stored - expected) < 0.1 * expected


steps = st.lists(
    st.tuples(
        st.sampled_from(["answer", "answer", "answer", "delete", "expire", "tidy", "acknowledge", "again", "requeue"]),
        st.integers(0, 5),
        st.integers(16_384, 60_000),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, seed=st.integers(0, 99))
def test_the_account_is_the_true_sum(server: Server, steps: list[tuple[str, int, int]], seed: int) -> None:
    """After tidying; before that it is never less, since only what is gone can be too much."""
    client, place, chosen = server.client, keys.stored(server.model, "default"), random.Random(seed)
    for step, number, size in steps:
        reply = keys.reply(server.model, "default", f"r{number}")
        if step in ("answer", "again"):
            answer(server, f"r{number}", size)
        elif step == "delete":
            client.unlink(reply) if chosen.random() < 0.5 else client.lpop(reply)
        elif step == "expire":
            client.pexpire(reply, 0)
        elif step == "tidy":
            server.call(functions.LANES)
        elif step == "acknowledge":
            server.admit(acks=(f"r{number}",))
        else:
            letter: Any = client.xadd(keys.dead_letters(server.model, "default"), {"m": b"m"})
            server.call(functions.REQUEUE, letter, f"r{number}")
            client.xtrim(server.work, maxlen=0)
        assert taken(server).stored >= _true_sum(server)
    server.call(functions.LANES)
    assert taken(server).stored == _true_sum(server)
    found: Any = client.zrange(place, 0, -1, withscores=True)
    assert sum(int(score) % 4194304 for name, score in found if name) * UNIT == taken(server).stored
    client.unlink(place, *(keys.reply(server.model, "default", f"r{number}") for number in range(6)))


def _true_sum(server: Server) -> int:
    replies = (server.reply(f"r{number}") for number in range(6))
    return sum(units(len(reply[0])) * UNIT for reply in replies if reply)


# --- as consumers see it, on the fake and on real servers ----------------------------------------------------------


def test_a_large_answer_without_room_is_told_so_and_nothing_is_done(lane: Lane) -> None:
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})
    lane.limit_bytes(MEBIBYTE)
    for _ in range(3):
        lane.add(b"x")
    first, second, third = stream.read(3)

    def end(entry: Any, name: str, size: int, expiry_ms: int = 60_000) -> Completion:
        return Completion(entry.entry_id, name, "", expiry_ms, bytes(size))

    large = 700_000
    assert stream.commit([end(first, "a", large), end(second, "b", large), end(third, "c", 10)]) == [1, NO_ROOM, 1]
    assert (lane.reply("b"), lane.length()) == (None, 1)
    told: list[int] = []
    lane.add(b"x")
    again = stream.commit_and_read([end(second, "b", large)], lambda: told.append(1), 1)
    assert ([one.message for one in again], told) == ([b"x"], [])
    assert stream.commit([end(second, "b", 10, 0)]) == [1]


def test_a_lock_out_of_the_account_is_none_of_the_lane(server: Server) -> None:
    """Rights from before there were accounts: requests come and go as they did."""
    user = f"old-{server.model}"
    server.client.execute_command(
        "ACL", "SETUSER", user, "on", ">secret", f"~hr:{{{server.model}}}:*", "+fcall", "+xadd", "+xlen", "+xack",
        "+xdel", "+rpush", "+pexpire", "+xrange", "+ping", "+client|setname",
    )  # fmt: skip
    try:
        old = server.client.connection_pool.connection_kwargs
        client = redis.Redis(host=old["host"], port=old["port"], username=user, password="secret")
        as_old = Server(client, server.model)
        _, entry = as_old.admit(("a", "0", b"m"))
        server.claim(1)
        assert as_old.commit((entry, "a", "", 60_000, bytes(LARGE))) == [1]
        client.close()
    finally:
        server.client.execute_command("ACL", "DELUSER", user)
