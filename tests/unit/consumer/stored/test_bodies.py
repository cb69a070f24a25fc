"""Bodies from the result store: read whole or not at all, bounded, and never waited for by others."""

from __future__ import annotations

import gc
import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import RowBudget
from consumer.pipeline.decoding.rows import Rows
from consumer.pipeline.decoding.stage import Decoding
from consumer.pipeline.intake import Intake
from consumer.pipeline.items import Item, Refused
from consumer.pipeline.stored import bodies
from consumer.pipeline.stored.bodies import BodyRoom
from shared.results.folder import FolderStore
from shared.results.references import StoredBody, body_prefix, owner_of, part_key
from shared.results.store import Store
from shared.settings import Settings
from tests.helpers import eventually
from tests.unit.consumer.parts import Toy, a_context, a_thread, item

MIB = 1 << 20
SETTINGS = Settings(large_body_mb=2, decode_memory_mb=16)
OWNER, ID = owner_of(b""), "0a" * 16


class Slow(FolderStore):
    """A store that answers when it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, 1 << 30)
        self.go_on = threading.Event()
        self.go_on.set()

    def get(self, key: str, most_bytes: int) -> bytes:
        self.go_on.wait(10)
        return super().get(key, most_bytes)


class Site:
    """The stage, its intake, its store, and what it refused."""

    def __init__(self, store: Store | None) -> None:
        self.store = store
        self.intake = Intake(Batcher(RowBudget(8), 0.0, BatchCost()))
        self.refused: list[Refused] = []
        context = a_context(settings=SETTINGS, store=store)
        rows = Rows(Toy(), 8, context.cancellations)
        self.stage = Decoding(context, rows, self.intake, self.refused.extend, lambda: None, a_thread)
        self.stage.start()

    def put(self, *parts: bytes, lane: str = "default") -> StoredBody:
        assert self.store is not None
        for number, part in enumerate(parts, 1):
            self.store.put(part_key(body_prefix(lane, OWNER, ID), number), part, 60)
        whole = b"".join(parts)
        return StoredBody(OWNER, ID, len(parts), len(whole), hashlib.sha256(whole).hexdigest())

    def add(self, place: str | StoredBody, request_id: str = "a", deadline_s: float = 1e9) -> None:
        text = place if isinstance(place, str) else place.text()
        one = item(request_id, deadline_s=deadline_s)
        one.request = msgspec.structs.replace(one.request, body=None, at_store=text)
        self.stage.add(one)

    def next(self) -> Item:
        batch = self.intake.next_batch(10.0)
        assert batch is not None
        (one,) = batch.items
        return one

    def refusal(self) -> tuple[str, str]:
        (one,) = eventually(lambda: self.refused)
        self.refused.clear()
        eventually(self.intake.is_empty)
        return one.error.outcome.code, one.error.message


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(Slow(tmp_path / "store"))
    yield made
    made.stage.shutdown()
    assert made.store is not None
    made.store.close()


def test_the_parts_become_one_body(site: Site) -> None:
    site.add(site.put(b"one ", b"two ", b"three"))
    one = site.next()
    assert one.request.body == b"one two three"
    assert one.request.at_store is None
    assert list(one.rows) == [b"one two three"]


def test_what_has_changed_since_is_not_run(site: Site) -> None:
    place = site.put(b"what was checked")
    site.put(b"what is read now")
    site.add(place)
    code, message = site.refusal()
    assert code == "invalid_input"
    assert "not there any more, or has changed" in message


@pytest.mark.parametrize("parts", [(b"short",), (b"one", b"far more than was said"), ()])
def test_what_is_shorter_or_longer_or_missing_is_not_run(site: Site, parts: tuple[bytes, ...]) -> None:
    place = site.put(b"one", b"more")
    assert site.store is not None
    for number in (1, 2):
        site.store.delete(part_key(body_prefix("default", OWNER, ID), number))
    site.put(*parts)
    site.add(place)
    assert site.refusal()[0] == "invalid_input"


def test_a_body_of_another_lane_is_not_found(site: Site) -> None:
    site.add(site.put(b"a secret of gold", lane="gold"))
    assert site.refusal()[0] == "invalid_input"


@pytest.mark.parametrize("text", ["", "../../etc/passwd", f"{OWNER}/../x:1:1:{'0' * 64}"])
def test_a_reference_that_is_none_is_malformed(site: Site, text: str) -> None:
    site.add(text)
    assert site.refusal()[0] == "malformed"


def test_nothing_larger_than_the_limit_is_read(site: Site) -> None:
    site.add(StoredBody(OWNER, ID, 1, 2 * MIB + 1, "0" * 64))
    code, message = site.refusal()
    assert (code, "larger than 2 MiB" in message) == ("invalid_input", True)


def test_a_request_whose_time_is_over_is_not_read_for(site: Site) -> None:
    site.add(site.put(b"late"), deadline_s=0.0)
    assert site.refusal()[0] == "expired"


def test_a_consumer_without_a_store_says_so() -> None:
    site = Site(None)
    site.add(StoredBody(OWNER, ID, 1, 1, "0" * 64))
    code, message = site.refusal()
    assert code == "store_unavailable"
    assert "this consumer has no result store (HEADRACE_RESULTS)" in message
    site.stage.shutdown()


def test_a_store_that_hangs_ends_its_requests_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LONGEST_READ_S", 0.1)
    store = Slow(tmp_path / "store")
    site = Site(store)
    place = site.put(b"late")
    store.go_on.clear()
    for number in range(6):
        site.add(place, f"r{number}")
    site.stage.add(item("quick", b"picture"))
    assert site.next().request.body == b"picture"
    eventually(lambda: len(site.refused) == 6)
    assert {one.error.outcome.code for one in site.refused} == {"store_unavailable"}
    store.go_on.set()
    site.refused.clear()

    def works() -> bool:
        site.add(place, "again")
        batch = site.intake.next_batch(0.1)
        return batch is not None and batch.items[0].request.body == b"late"

    eventually(works)
    site.stage.shutdown()
    store.close()


def test_memory_is_free_again_when_the_item_is_gone() -> None:
    room = BodyRoom(100)
    held: object = room.take(60, 0)
    assert held is not None
    assert room.take(60, 0.01) is None
    held = None
    gc.collect()
    assert room.take(100, 0) is not None


def test_who_waits_for_memory_goes_on_when_there_is_some(site: Site) -> None:
    place = site.put(bytes(MIB + 1))
    for number in range(17):  # of which 15 fit into the 16 MiB
        site.add(place, f"r{number}")
    count = 0
    while count < 17:
        batch = site.intake.next_batch(10.0)
        assert batch is not None
        count += len(batch.items)
    assert site.refused == []
