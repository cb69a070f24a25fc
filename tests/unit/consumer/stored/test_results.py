"""Which results go to the store, and what becomes of those that it does not take."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from consumer.pipeline.items import Item
from consumer.pipeline.stored import results
from consumer.pipeline.stored.results import ResultKeeper
from consumer.queue.interface import Completion
from shared.results.folder import FolderStore
from shared.results.references import LEAST_KEEP_MS, LEAST_REPLY_BYTES, parse_reply
from shared.wire.fast import decode_reply, encode_reply
from shared.wire.messages import ModelTag, Reply, Tensor, Timing
from tests.helpers import eventually
from tests.unit.consumer.parts import a_thread, item


def reply(request_id: str, size_bytes: int) -> bytes:
    output = Tensor("y", "UINT8", (size_bytes,), bytes(size_bytes))
    return encode_reply(Reply(request_id, ModelTag("toy", "1", "fp32"), Timing(1, 2, 3, 4, 5), 2, outputs=[output]))


def kept(request_id: str, size_bytes: int, keep_ms: int | None = 60_000) -> tuple[Item, Completion]:
    one = item(request_id)
    one.request = msgspec.structs.replace(one.request, keep_ms=keep_ms)
    end = Completion(one.entry.entry_id, request_id, "me", keep_ms or 1, reply(request_id, size_bytes))
    return one, end


class Slow(FolderStore):
    """A store that answers when it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, 1 << 30)
        self.go_on = threading.Event()

    def put(self, key: str, data: bytes, keep_s: float) -> None:
        self.go_on.wait(10)
        super().put(key, data, keep_s)


class Site:
    def __init__(self, store: FolderStore) -> None:
        self.store, self.committed = store, list[Completion]()
        self.counted: list[bool] = []
        self.keeper = ResultKeeper(store, "toy", a_thread, self.counted.append)

    def commit(self, completions: Sequence[Completion]) -> None:
        self.committed += completions

    def keep(self, one: Item, *ends: Completion) -> bool:
        return self.keeper.keep(one, ends, self.commit)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(FolderStore(tmp_path / "store", 1 << 20))
    yield made
    made.keeper.drain()
    made.store.close()


def test_a_large_one_is_committed_as_a_reference_with_all_that_joined(site: Site) -> None:
    one, end = kept("a", LEAST_REPLY_BYTES)
    joined = msgspec.structs.replace(end, entry_id=b"9-9", reply_to="you")
    assert site.keep(one, end, joined)
    site.keeper.drain()
    assert [(done.entry_id, done.reply_to) for done in site.committed] == [(end.entry_id, "me"), (b"9-9", "you")]
    short = decode_reply(site.committed[0].reply)
    assert (short.id, short.attempt, short.timing.run, short.outputs) == ("a", 2, 4, None)
    place = parse_reply(short.at_store or "")
    assert place is not None
    assert site.store.get(place.key("toy", "default"), place.size_bytes) == end.reply
    assert len(site.committed[0].reply) < 300
    assert site.counted == [True]


@pytest.mark.parametrize(
    ("size_bytes", "keep_ms", "goes"),
    [(100, 60_000, False), (100, LEAST_KEEP_MS, False), (100, LEAST_KEEP_MS + 1, True), (20_000, 1, True)],
)
def test_it_takes_what_is_large_or_kept_for_long(site: Site, size_bytes: int, keep_ms: int, goes: bool) -> None:
    assert site.keep(*kept("a", size_bytes, keep_ms)) is goes


def test_what_does_not_fit_is_committed_whole(site: Site) -> None:
    one, end = kept("a", 2 << 20)
    assert site.keep(one, end)
    site.keeper.drain()
    assert site.committed == [end]
    assert site.counted == [False]


def test_no_more_wait_than_there_is_memory_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_PENDING_BYTES", 100_000)
    site = Site(store := Slow(tmp_path / "store"))
    assert site.keep(*kept("a", 200_000))  # one may be larger than that
    assert not site.keep(*kept("b", 20_000))
    store.go_on.set()
    site.keeper.drain()
    assert site.keep(*kept("c", 20_000))
    site.keeper.drain()
    store.close()


def test_a_store_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "LONGEST_PUT_S", 0.1)
    site = Site(store := Slow(tmp_path / "store"))
    ends = [kept(f"r{number}", 20_000) for number in range(10)]
    for one in ends:
        assert site.keep(*one)
    site.keeper.drain()
    assert sorted(done.request_id for done in site.committed) == [f"r{number}" for number in range(10)]
    assert {done.reply for done in site.committed} == {end.reply for _, end in ends}
    assert not site.keep(*kept("more", 20_000))  # while so many threads hang, nothing more is tried
    store.go_on.set()
    eventually(lambda: site.keep(*kept("again", 20_000)))
    site.keeper.drain()
    assert decode_reply(site.committed[-1].reply).at_store
    assert len(site.committed) == 11
    store.close()
