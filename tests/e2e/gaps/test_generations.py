"""Generations of a batch lane on a running engine: they begin where no other waits, and leave a slot free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared import keys
from shared.redis.client import connect
from shared.state import lanes
from shared.wire.generation import CONTENT_TYPE, Generation, encode_generation
from shared.wire.messages import Request, decode_reply, encode_request
from tests.e2e.stack import Stack
from tests.fault.generating.asking import null_models
from tests.helpers import eventually

BULK, MAIN = "bulk", keys.DEFAULT_LANE


class Asking:
    """Adds generations to lanes of a model."""

    def __init__(self, url: str, model: str) -> None:
        self.client: Any = connect(url)
        self.model = model

    def ask(self, lane: str, name: str, tokens: int) -> None:
        """Add one of so many tokens."""
        wanted = encode_generation(Generation(prompt="x" * 8, max_tokens=tokens, temperature=0))
        message = encode_request(Request(name, 120_000, CONTENT_TYPE, wanted))
        assert self.client.execute_command("XADD", keys.work(self.model, lane), "NOMKSTREAM", "*", "m", message)

    def tokens(self, lane: str, name: str) -> int:
        """How many tokens the answer has."""
        found = eventually(lambda: self.client.lindex(keys.reply(self.model, lane, name), 0), limit_s=40.0)
        reply = decode_reply(found)
        assert reply.generated is not None, reply.fault
        return reply.generated.usage.generated

    def claimed(self, lane: str) -> int:
        """How many of a lane a consumer holds."""
        return int(self.client.xpending(keys.work(self.model, lane), keys.GROUP)["pending"])


def test_a_slot_stays_free_and_ordinary_ones_begin_at_once(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    models = null_models(tmp_path, model_name, step_ms=20, slots=3)
    with Stack(valkey_url, models, GENERATION_DRAIN_MS="200", LEASE_MS="2000") as stack:
        consumer = stack.start_consumer(model_name)
        asking = Asking(valkey_url, model_name)
        fields: dict[str, Any] = {BULK: lanes.encode(100, 1.0), lanes.kind_field(BULK): lanes.BATCH}
        asking.client.hset(keys.lanes(model_name), mapping=fields)
        consumer.until("There is a lane of kind batch")
        for number in range(6):
            asking.ask(BULK, f"b{number}", 100)
        eventually(lambda: asking.claimed(BULK) == 2)
        for number in range(3):
            asking.ask(MAIN, f"a{number}", 2)
            assert asking.tokens(MAIN, f"a{number}") == 2
        assert asking.claimed(BULK) == 2  # they ran meanwhile, and no third one
        # What runs when the consumer stops is handed over, and goes on elsewhere.
        assert consumer.terminate() == 0
        again = stack.start_consumer(model_name)
        assert [asking.tokens(BULK, f"b{number}") for number in range(6)] == [100] * 6
        assert "Going on with a generation" in again.text()
        asking.client.close()
