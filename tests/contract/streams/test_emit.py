"""``hr1_emit`` and ``hr1_hand_over`` on real servers: each frame once, by the owner alone, and none after the end."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.queue.interface import Emission
from shared import keys
from shared.redis import functions
from tests.contract.redis.test_functions import LANE, STREAM_MS, Server

EXPIRY_MS = 60_000


def emit(server: Server, *frames: tuple[Any, str, int], worker: str = "one", me: str = "me") -> Any:
    """Write frames, each an entry, an id and a number."""
    made = [
        Emission(entry, name, me, 0 if seq else EXPIRY_MS, seq, f"<{name} {seq}>".encode())
        for entry, name, seq in frames
    ]
    return server.send(functions.emit(server.work, worker, STREAM_MS, made))


def record(server: Server, name: str) -> list[tuple[bytes, bytes]]:
    """The ids and frames of a record."""
    found: Any = server.client.xrange(keys.record(server.model, LANE, name))
    return [(entry, fields[b"f"]) for entry, fields in found]


def hints(server: Server, me: str = "me") -> list[bytes]:
    found: Any = server.client.xrange(keys.reply_stream(server.model, LANE, me))
    return [fields[b"f"] for _, fields in found if b"f" in fields]


def test_a_frame_is_written_and_hinted(server: Server) -> None:
    (entry,) = server.admitted("a")
    assert emit(server, (entry, "a", 0)) == [1]
    assert emit(server, (entry, "a", 1)) == [1]
    assert record(server, "a") == [(b"1-0", b"<a 0>"), (b"2-0", b"<a 1>")]
    assert hints(server) == [b"<a 0>", b"<a 1>"]
    ttl_ms: Any = server.client.pttl(keys.record(server.model, LANE, "a"))
    assert 0 < ttl_ms <= EXPIRY_MS


def test_the_frames_of_a_call_are_one_hint_for_each_instance(server: Server) -> None:
    one, two, three = server.admitted("a", "b", "c")
    frames = [Emission(entry, name, me, EXPIRY_MS, 0, name.encode()) for entry, name, me in
              ((one, "a", "x"), (two, "b", "y"), (three, "c", "x"))]  # fmt: skip
    assert server.send(functions.emit(server.work, "one", STREAM_MS, frames)) == [1, 1, 1]
    assert (hints(server, "x"), hints(server, "y")) == ([b"ac"], [b"b"])


def test_without_an_instance_there_is_a_record_alone(server: Server) -> None:
    (entry,) = server.admitted("a")
    assert emit(server, (entry, "a", 0), me="") == [1]
    assert len(record(server, "a")) == 1
    assert not server.client.exists(keys.reply_stream(server.model, LANE, ""))


def test_a_repeated_call_changes_nothing(server: Server) -> None:
    (entry,) = server.admitted("a")
    assert emit(server, (entry, "a", 0), (entry, "a", 1)) == [1, 1]
    assert emit(server, (entry, "a", 0), (entry, "a", 1), (entry, "a", 2)) == [2, 2, 1]
    assert [frame for _, frame in record(server, "a")] == [b"<a 0>", b"<a 1>", b"<a 2>"]
    assert hints(server) == [b"<a 0><a 1>", b"<a 2>"]


def test_only_the_owner_of_the_entry_writes(server: Server) -> None:
    (entry,) = server.admitted("a")
    assert emit(server, (entry, "a", 0), worker="other") == [0]
    assert emit(server, (entry, "a", 0)) == [1]
    server.client.execute_command("XCLAIM", server.work, keys.GROUP, "other", 0, entry)
    assert emit(server, (entry, "a", 1)) == [0]
    assert emit(server, (entry, "a", 1), worker="other") == [1]
    assert [frame for _, frame in record(server, "a")] == [b"<a 0>", b"<a 1>"]


@pytest.mark.parametrize("end", ["commit", "cancel", "dead"])
def test_nothing_is_written_after_the_end(server: Server, end: str) -> None:
    (entry,) = server.admitted("a")
    assert emit(server, (entry, "a", 0)) == [1]
    if end == "commit":
        assert server.commit((entry, "a", "me", EXPIRY_MS, b"reply")) == [1]
    elif end == "cancel":
        assert server.call(functions.CANCEL, "0", "a", entry) == [b"claimed"]
    else:
        assert server.call(functions.DEAD, 9, 9000, 99, 10, 1000, entry, "a", "me", 9000, "reply", "why", 2) == [1]
        server.client.pexpire(keys.dead_letters(server.model, LANE), EXPIRY_MS)
    assert emit(server, (entry, "a", 1)) == [0]
    # What a client of a finished one still wants to read stays as long as its reply; nobody reads on in the others.
    assert len(record(server, "a")) == (1 if end == "commit" else 0)


def test_an_id_that_is_asked_for_again_begins_anew(server: Server) -> None:
    (first,) = server.admitted("a")
    assert emit(server, (first, "a", 0), (first, "a", 1)) == [1, 1]
    server.commit((first, "a", "me", EXPIRY_MS, b"reply"))
    server.client.unlink(keys.reply(server.model, LANE, "a"))
    (second,) = server.admitted("a")
    assert emit(server, (second, "a", 0)) == [1]
    assert [frame for _, frame in record(server, "a")] == [b"<a 0>"]


def test_two_entries_of_an_id_do_not_mix(server: Server) -> None:
    first, second = server.admitted("a", "a")
    assert emit(server, (first, "a", 0)) == [1]
    assert emit(server, (second, "a", 0)) == [b"taken"]
    assert emit(server, (first, "a", 1)) == [1]
    server.commit((first, "a", "me", EXPIRY_MS, b"reply"))
    assert emit(server, (second, "a", 0)) == [b"taken"]
    assert [frame for _, frame in record(server, "a")] == [b"<a 0>", b"<a 1>"]


def test_no_frame_is_left_out(server: Server) -> None:
    """Not even where the record has gone: who reads it must never find a hole."""
    (entry,) = server.admitted("a")
    assert emit(server, (entry, "a", 1)) == [b"gone"]
    assert emit(server, (entry, "a", 0), (entry, "a", 2)) == [1, b"gone"]
    server.client.unlink(keys.record(server.model, LANE, "a"))
    assert emit(server, (entry, "a", 1)) == [b"gone"]
    assert record(server, "a") == []


def test_each_frame_may_let_the_record_live_on(server: Server) -> None:
    (entry,) = server.admitted("a")
    emit(server, (entry, "a", 0))
    later = Emission(entry, "a", "", 10 * EXPIRY_MS, 1, b"f")
    assert server.send(functions.emit(server.work, "one", STREAM_MS, [later])) == [1]
    ttl_ms: Any = server.client.pttl(keys.record(server.model, LANE, "a"))
    assert EXPIRY_MS < ttl_ms <= 10 * EXPIRY_MS


def test_a_bad_item_strands_no_other(server: Server) -> None:
    (entry,) = server.admitted("a")
    bad: list[tuple[Any, ...]] = [
        ("x", "a", "", EXPIRY_MS, 0, b"f"),
        (entry, "a:b", "", EXPIRY_MS, 0, b"f"),
        (entry, "a", "}", EXPIRY_MS, 0, b"f"),
        (entry, "a", "", "soon", 0, b"f"),
        (entry, "a", "", EXPIRY_MS, -1, b"f"),
        (entry, "a", "", 0, 0, b"f"),
    ]
    items = [part for item in (*bad, (entry, "a", "", EXPIRY_MS, 0, b"f")) for part in item]
    answer = server.call(functions.EMIT, "one", 9, STREAM_MS, *items)
    assert answer == [b"error malformed item"] * len(bad) + [1]
    for wrong in ((), ("one",), ("one", 9, STREAM_MS, "1-1"), ("a b", 9, STREAM_MS), ("one", "x", STREAM_MS)):
        with pytest.raises(Exception, match="wrong arguments"):
            server.call(functions.EMIT, *wrong)


def test_a_record_of_another_type_is_an_error_of_its_own(server: Server) -> None:
    one, two = server.admitted("a", "b")
    server.client.set(keys.record(server.model, LANE, "a"), "x", px=EXPIRY_MS)
    first, second = emit(server, (one, "a", 0), (two, "b", 0))
    assert (first[:15], second) == (b"error WRONGTYPE", 1)


def test_what_is_handed_over_is_taken_over_at_once(server: Server) -> None:
    one, two = server.admitted("a", "b")
    emit(server, (one, "a", 0))
    assert server.send(functions.begin(server.work, "one", one, 3)) == 1
    assert server.send(functions.hand_over(server.work, "one", 60_000, [one, b"1-1"])) == 1
    assert server.send(functions.hand_over(server.work, "other", 60_000, [two])) == 0
    # It did not end its consumer: being handed over counts for nothing.
    assert server.send(functions.reclaim(server.work, "other", 60_000, 10)) == [[one, 1, b"message"]]
    assert emit(server, (one, "a", 1)) == [0]
    assert emit(server, (one, "a", 1), worker="other") == [1]


def test_a_reply_stream_with_frames_is_capped(server: Server) -> None:
    server.client.config_set("stream-node-max-entries", 10)
    (entry,) = server.admitted("a")
    try:
        for seq in range(100):
            frame = Emission(entry, "a", "me", EXPIRY_MS, seq, b"f")
            assert server.send(functions.emit(server.work, "one", STREAM_MS, [frame], cap=20)) == [1]
    finally:
        server.client.config_set("stream-node-max-entries", 100)
    assert len(hints(server)) <= 40
    assert len(record(server, "a")) == 100
    ttl_ms: Any = server.client.pttl(keys.reply_stream(server.model, LANE, "me"))
    assert 0 < ttl_ms <= STREAM_MS
