"""What a front end reads of what others may write: the stream of ends is weighed before it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from producer_api.queue import reply_reader
from producer_api.queue.pending import PendingReplies
from producer_api.queue.reply_reader import ReplyReader
from shared import keys, limits
from shared.redis.client import connect, connect_async
from shared.wire.outcomes import CANCELLED, EXPIRED, LANE_FULL, OVERLOADED, UNKNOWN_OUTCOME, Outcome
from tests.helpers import eventually_async

MEBIBYTE = 1 << 20
PART = msgpack.packb({"v": 1, "id": "a", "seq": 0, "final": False, "outputs": []})
WHOLE = msgpack.packb({"v": 1, "id": "a", "seq": 1, "final": True, "outputs": [b"final\xc2"]})
STRANGE = b"final\xc2 in what is no reply"


def reader_of(
    client: Any, pending_replies: PendingReplies, model: str, on_cursor: Callable[[bytes], None] = lambda cursor: None
) -> ReplyReader:
    """A reader of one model's only lane, for the front end ``fe-test``."""
    return ReplyReader(
        client, pending_replies, model, "default", "fe-test", 20, on_cursor=on_cursor, on_error=lambda: None
    )


@pytest.mark.parametrize(
    ("hints", "stored", "expected"),
    [
        ([{"id": "a", "reply": WHOLE}], None, WHOLE),
        ([{"colour": "blue", "reply": WHOLE, "id": "a", "seq": "1"}], None, WHOLE),
        ([{"seq": "0", "id": "a", "spare": "x"}], WHOLE, WHOLE),
        ([{"id": "a", "reply": b"late", "entry": "2-2"}, {"id": "a", "reply": WHOLE, "entry": "1-1"}], None, WHOLE),
        ([{"entry": "2-2", "reply": b"late", "id": "a"}, {"entry": "1-1", "id": "a", "reply": WHOLE}], None, WHOLE),
        ([{"id": "a", "reply": PART}, {"id": "a", "reply": PART, "entry": "1-1"}, {"id": "a"}], WHOLE, WHOLE),
        ([{"reply": b"nobody's"}, {"id": "a", "reply": STRANGE}], None, STRANGE),
    ],
    ids=["today's", "in another order", "no reply", "of an entry", "of an entry, in another order", "parts", "strange"],
)  # fmt: skip
def test_hints_are_read_by_name_and_parts_of_an_answer_are_none(
    redis_url: str, model_name: str, hints: list[dict[Any, Any]], stored: bytes | None, expected: bytes
) -> None:
    stream, key = keys.reply_stream(model_name, "default", "fe-test"), keys.reply(model_name, "default", "a")

    async def main() -> None:
        client, cursors = connect_async(redis_url), list[bytes]()
        pending_replies, told = PendingReplies(asyncio.get_running_loop()), list[Any]()
        reader = reader_of(client, pending_replies, model_name, cursors.append)
        reader.start()
        server.xadd(stream, {"id": "nobody"})
        await eventually_async(lambda: cursors)  # from now on reply keys are looked at for a reason only
        pending_replies.add("a", 60.0, told.append).entered(b"1-1")
        if stored is not None:
            server.rpush(key, stored)
        for hint in hints:
            server.xadd(stream, hint)
        await eventually_async(lambda: told)
        assert told == [expected]
        await reader.close()
        await client.aclose()

    with connect(redis_url) as server:
        asyncio.run(main())
        server.unlink(stream, key)


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"entry": "1-1", "code": "expired"}, EXPIRED),
        ({"entry": "1-1", "code": "overloaded"}, CANCELLED),
        ({"entry": "1-1"}, CANCELLED),
        ({"ended": "1-1", "code": "overloaded"}, OVERLOADED),
        ({"code": "lane_full", "ended": "1-1", "later": "x"}, LANE_FULL),
        ({"ended": "1-1", "code": "model_error"}, UNKNOWN_OUTCOME),
        ({"ended": "1-1", "code": "ok"}, UNKNOWN_OUTCOME),
        ({"ended": "1-1", "code": b"\xff"}, UNKNOWN_OUTCOME),
        ({"ended": "1-1"}, UNKNOWN_OUTCOME),
    ],
)  # fmt: skip
def test_what_is_read_of_an_end(redis_url: str, model_name: str, fields: dict[Any, Any], outcome: Outcome) -> None:
    """A direct producer may write there, too: it gives nobody an answer, and ends no other entry."""
    ends = keys.terminations(model_name, "default")

    async def main() -> None:
        client, told = connect_async(redis_url), list[Any]()
        pending_replies = PendingReplies(asyncio.get_running_loop())
        reader = reader_of(client, pending_replies, model_name)
        pending_replies.add("a", 60.0, told.append).entered(b"1-1")
        server.xadd(ends, {"id": "a", "ended": "1-2", "code": "overloaded"})
        server.xadd(ends, {"id": "a"})
        server.xadd(ends, {"id": "a", **fields})
        reader.start()
        await eventually_async(lambda: told)
        assert [error.outcome for error in told] == [outcome]
        await reader.close()
        await client.aclose()

    with connect(redis_url) as server:
        asyncio.run(main())
        server.unlink(ends)


def test_a_stream_of_ends_that_is_too_large_is_left_unread(redis_url: str, model_name: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(reply_reader, "WEIGH_S", 0.01)
    ends, hints = keys.terminations(model_name, "default"), keys.reply_stream(model_name, "default", "fe-test")
    entry = {"entry": "1-1", "id": "a", "code": "cancelled"}

    async def main() -> None:
        client, results = connect_async(redis_url), dict[str, Any]()
        pending_replies = PendingReplies(asyncio.get_running_loop())
        reader = reader_of(client, pending_replies, model_name)
        for name in "ab":
            pending = pending_replies.add(name, 60.0, lambda result, name=name: results.setdefault(name, result))  # type: ignore[misc]
            pending.entered(b"1-1")
        for _ in range(6):
            server.xadd(ends, {**entry, "junk": bytes(MEBIBYTE)})
        reader.start()
        server.xadd(hints, {"id": "b", "reply": b"reply"})
        await eventually_async(lambda: "b" in results)
        assert "a" not in results
        server.unlink(ends)
        server.xadd(ends, {**dict.fromkeys((f"x{number}" for number in range(1000)), "y")})
        server.xadd(ends, entry)
        await eventually_async(lambda: "a" in results)
        await reader.close()
        await client.aclose()

    with connect(redis_url) as server:
        assert 6 * MEBIBYTE > limits.ENDS_BYTES
        asyncio.run(main())
        server.unlink(ends, hints)
