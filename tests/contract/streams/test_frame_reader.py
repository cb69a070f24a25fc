"""The frames that a front end reads: in order, each once, from hints and, where these lack some, from the record."""

from __future__ import annotations

import asyncio
from typing import Any

from producer_api.queue.pending import PendingReplies
from producer_api.queue.reply_reader import ReplyReader
from shared import keys
from shared.redis.client import connect, connect_async
from shared.wire.frames import Frame, encode_frame
from tests.helpers import eventually_async


class Taken:
    """See :class:`producer_api.queue.interface.Parts`."""

    def __init__(self, next_seq: int = 0) -> None:
        self.next_seq = next_seq
        self.texts: list[str] = []
        self.admissions: list[bool] = []

    def admitted(self, *, joined: bool) -> None:
        self.admissions.append(joined)

    def frame(self, frame: Frame) -> None:
        self.texts.append(frame.text)


def encoded(seq: int, request_id: str = "a") -> bytes:
    return encode_frame(Frame(request_id, seq, 1, b"", str(seq)))


def test_frames_come_in_order_and_once(redis_url: str, model_name: str) -> None:
    stream = keys.reply_stream(model_name, "default", "fe-test")
    record = keys.record(model_name, "default", "a")

    async def main() -> None:
        client = connect_async(redis_url)
        pending_replies = PendingReplies(asyncio.get_running_loop())
        reader = ReplyReader(
            client, pending_replies, model_name, "default", "fe-test", 20, lambda cursor: None, lambda: None
        )
        taken, other, ended = Taken(), Taken(), list[Any]()
        pending_replies.add("a", 60.0, ended.append, taken).entered(b"1-1")
        pending_replies.add("b", 60.0, ended.append, other).entered(b"1-2")
        reader.start()
        server.xadd(stream, {"f": encoded(0) + encoded(0, "b") + encoded(1)})
        await eventually_async(lambda: len(taken.texts) == 2)
        server.xadd(stream, {"f": encoded(1) + encoded(2)})  # one that came before
        server.xadd(stream, {"f": b"\xc1 this is no frame"})
        server.xadd(stream, {"f": encoded(0, "nobody")})
        for seq in range(6):
            server.xadd(record, {"f": encoded(seq)}, id=f"{seq + 1}-0")
        server.xadd(stream, {"f": encoded(5)})  # 3 and 4 are in the record alone
        await eventually_async(lambda: len(taken.texts) == 6)
        assert taken.texts == [str(seq) for seq in range(6)]
        assert (other.texts, taken.admissions, ended) == (["0"], [False], [])
        await reader.close()
        await client.aclose()

    with connect(redis_url) as server:
        asyncio.run(main())
        server.unlink(stream, record)


def test_one_who_joined_reads_the_record(redis_url: str, model_name: str) -> None:
    record = keys.record(model_name, "default", "a")

    async def main() -> None:
        client = connect_async(redis_url)
        pending_replies = PendingReplies(asyncio.get_running_loop())
        reader = ReplyReader(
            client, pending_replies, model_name, "default", "fe-test", 20, lambda cursor: None, lambda: None
        )
        taken = Taken(next_seq=300)
        for seq in range(700):
            server.xadd(record, {"f": encoded(seq)}, id=f"{seq + 1}-0")
        pending_replies.add("a", 60.0, lambda result: None, taken).join(b"1-1")
        reader.start()
        await eventually_async(lambda: len(taken.texts) == 400)
        server.xadd(record, {"f": encoded(700)}, id="701-0")
        await eventually_async(lambda: len(taken.texts) == 401)
        assert taken.texts == [str(seq) for seq in range(300, 701)]
        assert taken.admissions == [True]
        await reader.close()
        await client.aclose()

    with connect(redis_url) as server:
        asyncio.run(main())
        server.unlink(record)
