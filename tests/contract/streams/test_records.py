"""What consumers rely on in the records of generations, in memory and on real servers alike."""

from __future__ import annotations

from consumer.queue.interface import Completion, Emission, Emitted, Entry
from tests.contract.lanes import Lane, card

W, R, L = Emitted.WRITTEN, Emitted.REPEATED, Emitted.LOST
EXPIRY_MS = 60_000


def emission(entry: Entry, seq: int, name: str = "a") -> Emission:
    return Emission(entry.entry_id, name, "me", EXPIRY_MS, seq, f"<{name} {seq}>".encode(), entry.lane)


def test_frames_are_written_once_and_read_in_order(lane: Lane) -> None:
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})
    lane.add(b"message")
    (entry,) = stream.read(1)
    records = stream.records
    assert records.record(entry.claim, "a") is None
    assert records.emit([emission(entry, 0), emission(entry, 1)]) == [W, W]
    assert records.emit([emission(entry, 1), emission(entry, 2), emission(entry, 4)]) == [R, W, Emitted.GONE]
    record = records.record(entry.claim, "a")
    assert record is not None
    assert record.frames == [b"<a 0>", b"<a 1>", b"<a 2>"]
    assert record.began_ms >= entry.added_ms
    assert records.record((entry.lane, b"1-1"), "a") is None


def test_the_owner_alone_writes_until_the_end(lane: Lane) -> None:
    stream, other = lane.stream("one"), lane.stream("two")
    for one in (stream, other):
        one.heartbeat(card(lane.model), {})
    lane.add(b"message")
    (entry,) = stream.read(1)
    assert stream.records.emit([emission(entry, 0)]) == [W]
    assert other.records.emit([emission(entry, 1)]) == [L]
    assert other.reclaim(1) == []
    assert other.records.hand_over([entry.claim]) == 0
    assert not other.hears_of_hand_overs()
    assert stream.records.hand_over([entry.claim, ("default", b"1-1")]) == 1
    assert other.terminations() == []
    assert (other.hears_of_hand_overs(), other.hears_of_hand_overs()) == (True, False)
    (taken,) = other.reclaim(1)
    assert (taken.entry_id, taken.attempt) == (entry.entry_id, 2)
    assert stream.records.emit([emission(entry, 1)]) == [L]
    assert other.records.emit([emission(entry, 1)]) == [W]
    assert other.commit([Completion(entry.entry_id, "a", "me", EXPIRY_MS, b"reply")]) == [1]
    assert other.records.emit([emission(entry, 2)]) == [L]


def test_two_entries_of_an_id_have_one_record(lane: Lane) -> None:
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})
    lane.add(b"message")
    lane.add(b"message")
    first, second = stream.read(2)
    assert stream.records.emit([emission(first, 0), emission(second, 0)]) == [W, Emitted.TAKEN]
    assert stream.commit([Completion(first.entry_id, "a", "me", EXPIRY_MS, b"reply")]) == [1]
    assert stream.records.emit([emission(second, 0)]) == [Emitted.TAKEN]


def test_frames_of_several_lanes_go_in_one_call(lane: Lane) -> None:
    other = lane.other("gold")
    stream = lane.stream("one")
    stream.heartbeat(card(lane.model), {})
    stream.heartbeat(card(lane.model), {})
    lane.add(b"message")
    other.add(b"message")
    entries: list[Entry] = []
    while len(entries) < 2:
        entries += stream.read(2)
    frames = [emission(entry, 0, entry.lane) for entry in entries]
    lost = Emission(b"1-1", "x", "", EXPIRY_MS, 0, b"f", "gone")
    assert stream.records.emit(frames) == [W, W]
    assert stream.records.emit([lost, emission(entries[0], 1, entries[0].lane)]) == [L, W]
