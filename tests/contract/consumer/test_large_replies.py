"""An answer that Redis does not take, on a real server: its request ends, and so do the others."""

from __future__ import annotations

from pathlib import Path

from consumer.batching.batcher import CloseReason
from consumer.events import BatchDone
from consumer.pipeline.committer import Committer
from consumer.pipeline.items import BatchRun
from shared.redis.embedded import ServerConfig, free_port
from shared.wire.messages import decode_reply
from shared.wire.outcomes import INTERNAL
from tests.contract.lanes import RedisLane, card
from tests.embedded import EmbeddedServer
from tests.unit.consumer.parts import CARD, Toy, a_context, item, joined, on_thread

MEGABYTE = 1024 * 1024


def test_an_answer_larger_than_redis_takes_ends_with_an_error(tmp_path: Path, model_name: str) -> None:
    with EmbeddedServer(ServerConfig(tmp_path, free_port(), "no", 256)) as server:
        lane = RedisLane(model_name, server.url)
        stream = lane.stream("one")
        stream.heartbeat(card(model_name), {})
        lane.client.config_set("proto-max-bulk-len", MEGABYTE)
        items = [item("small"), item("huge"), item("last")]
        for _ in items:
            lane.add(b"message")
        for one, entry in zip(items, stream.read(len(items)), strict=True):
            one.entry = entry
        events: list[BatchDone] = []
        context = a_context(stream)
        context.metrics.batch_done = events.append  # type: ignore[method-assign, assignment]
        committer = Committer(context, Toy(), CARD, lambda: False)
        committing = on_thread("commit", committer.run)
        for one, outputs in zip(items, ([b"S"], [bytes(3 * MEGABYTE)], [b"L"]), strict=True):
            one.outcome = outputs
        committer.finish(items, BatchRun(0.0, 0.0, 3, CloseReason.FULL))
        committer.close()
        try:
            assert joined(committing)
        finally:
            committer.give_up()
        replies = [decode_reply(lane.reply(one.request.id) or b"") for one in items]
        assert [reply.fault and reply.fault.code for reply in replies] == [None, INTERNAL.code, None]
        assert lane.length() == 0
        assert [one.outcome for one in events[0].items] == ["ok", INTERNAL.code, "ok"]
        lane.close()
