"""A store that hangs keeps neither the event loop nor those that wait for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer_api.store import stored_replies
from producer_api.store.aside import StoreAside
from producer_api.store.stored_replies import StoredReplies
from shared.results.folder import FolderStore
from shared.results.references import stored_reply
from shared.results.store import StoreError, StoreMissing
from shared.wire.fast import encode_reply
from shared.wire.messages import ModelTag, Reply, Tensor, Timing
from shared.wire.outcomes import RequestError

TAG = ModelTag("m", "1", "fp32")


class Slow(FolderStore):
    """A store that answers when it is let."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, 1 << 30)
        self.go_on = threading.Event()
        self.go_on.set()
        self.gets = 0

    def get(self, key: str, most_bytes: int) -> bytes:
        self.gets += 1
        self.go_on.wait(10)
        return super().get(key, most_bytes)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    made = Slow(tmp_path / "store")
    yield made
    made.go_on.set()
    made.close()


def test_what_is_done_aside_is_what_the_store_does(slow: Slow) -> None:
    async def use() -> None:
        aside = StoreAside(slow)
        await aside.put("a/b", b"x", 60)
        await aside.keep("a/b", 120)
        assert await aside.get("a/b", 10) == b"x"
        assert [found.key for found in await aside.list("a")] == ["a/b"]
        with pytest.raises(StoreMissing):
            await aside.get("a/c", 10)
        assert await aside.delete("a/b")
        await aside.put("c/d", b"x", 60)
        assert await aside.delete_below("c") == 1

    asyncio.run(use())


def test_a_store_that_hangs_is_given_up_and_used_again_when_it_answers(slow: Slow) -> None:
    slow.put("a", b"x", 60)
    slow.go_on.clear()

    async def use() -> None:
        aside = StoreAside(slow, threads=2, timeout_s=0.1)
        calls = [aside.get("a", 10) for _ in range(20)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, StoreError) and "has not answered for 0.1 s" in str(end) for end in ends)
        assert slow.gets == 2  # those that wait behind the two that hang are not begun any more
        slow.go_on.set()
        assert await StoreAside(slow).get("a", 10) == b"x"
        aside = StoreAside(slow)
        assert await aside.get("a", 10) == b"x"

    asyncio.run(use())


def kept(slow: Slow, size_bytes: int, lane: str = "default") -> Reply:
    whole = encode_reply(Reply("r", TAG, Timing(), outputs=[Tensor("y", "UINT8", (size_bytes,), bytes(size_bytes))]))
    place = stored_reply("r", "00000000", len(whole))
    slow.put(place.key("m", lane), whole, 60)
    return Reply("r", TAG, Timing(), at_store=place.text())


def outcome(replies: StoredReplies, reply: Reply, lane: str = "default") -> str | Reply:
    try:
        return asyncio.run(replies.whole("m", lane, reply))
    except RequestError as error:
        return error.outcome.code


def test_a_reply_is_whole_again(slow: Slow) -> None:
    replies = StoredReplies(StoreAside(slow), 1 << 20)
    found = outcome(replies, kept(slow, 1000))
    assert isinstance(found, Reply)
    assert found.outputs is not None and found.outputs[0].data == bytes(1000)
    plain = Reply("r", TAG, Timing(), outputs=[])
    assert outcome(replies, plain) is plain


def test_a_reply_of_another_lane_is_never_read(slow: Slow) -> None:
    replies = StoredReplies(StoreAside(slow), 1 << 20)
    assert outcome(replies, kept(slow, 10, "gold")) == "result_gone"
    for text in ("../gold/aa/r.00000000:10", "", "aa/r.00000000"):
        assert outcome(replies, Reply("r", TAG, Timing(), at_store=text)) == "internal"


def test_what_is_longer_than_it_says_or_no_reply_is_not_shown(slow: Slow) -> None:
    replies = StoredReplies(StoreAside(slow), 1 << 20)
    place = stored_reply("r", "00000000", 5)
    for data in (b"longer than five", b"\xc1junk"[:5]):
        slow.put(place.key("m", "default"), data, 60)
        assert outcome(replies, Reply("r", TAG, Timing(), at_store=place.text())) == "internal"


def test_a_front_end_without_a_store_says_so(slow: Slow) -> None:
    assert outcome(StoredReplies(None, 1 << 20), kept(slow, 10)) == "store_unavailable"


def test_no_more_are_read_at_once_than_there_is_memory_for(slow: Slow) -> None:
    reply = kept(slow, 100_000)
    slow.go_on.clear()

    async def use() -> None:
        replies = StoredReplies(StoreAside(slow), 150_000)
        first = asyncio.create_task(replies.whole("m", "default", reply))
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as error:
            await replies.whole("m", "default", reply)
        assert error.value.outcome.code == "overloaded"
        slow.go_on.set()
        assert (await first).outputs
        assert (await replies.whole("m", "default", reply)).outputs

    asyncio.run(use())


def test_a_store_that_does_not_answer_is_503(slow: Slow) -> None:
    reply = kept(slow, 10)
    slow.go_on.clear()
    assert outcome(StoredReplies(StoreAside(slow, timeout_s=0.05), 1 << 20), reply) == "store_unavailable"
    assert stored_replies.RETRY_AFTER_S > 0
