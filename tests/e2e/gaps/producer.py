"""A direct producer that fills two lanes of a model, and sees what was run and answered."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from shared import keys
from shared.redis.client import connect
from shared.state import lanes
from shared.wire.messages import Reply, Request, decode_reply, encode_request
from tests.helpers import eventually

BULK = "bulk"
MAIN = keys.DEFAULT_LANE


class Producer:
    """Sends requests whose body is their name."""

    def __init__(self, url: str, model: str, folder: Path) -> None:
        self.client: Any = connect(url)
        self.model, self._folder = model, folder
        self._entries: dict[str, tuple[str, bytes]] = {}

    def make_lane(self, name: str = BULK, *, is_batch: bool = True, weight: float = 1.0) -> None:
        """Make a lane, or change its kind; returns once all consumers have seen it."""
        fields: dict[str, Any] = {name: lanes.encode(10_000, weight)}
        if is_batch:
            fields[lanes.kind_field(name)] = lanes.BATCH
        else:
            self.client.hdel(keys.lanes(self.model), lanes.kind_field(name))
        self.client.hset(keys.lanes(self.model), mapping=fields)
        eventually(lambda: self.client.exists(keys.work(self.model, name)), limit_s=20.0)

    def send(self, lane: str, *names: str, ttl_ms: int = 120_000, urgent: bool = False) -> None:
        """Add requests in one step, so that they are there together."""
        with self.client.pipeline(transaction=True) as pipe:
            for name in names:
                body = name.encode()
                request = Request(name, ttl_ms, "application/octet-stream", body, urgent=urgent)
                pipe.xadd(keys.work(self.model, lane), {"m": encode_request(request)})
            for name, entry in zip(names, pipe.execute(), strict=True):
                self._entries[name] = lane, entry

    def cancel(self, name: str) -> None:
        """Take a request away, as a front end does."""
        lane, entry = self._entries[name]
        self.client.xadd(keys.terminations(self.model, lane), {"entry": entry})
        self.client.xdel(keys.work(self.model, lane), entry)

    def reply(self, name: str, limit_s: float = 40.0) -> Reply:
        """Wait for an answer."""
        lane, _ = self._entries[name]
        found = eventually(lambda: self.client.lindex(keys.reply(self.model, lane, name), 0), limit_s=limit_s)
        return decode_reply(found)

    def are_answered(self, *names: str) -> bool:
        """Wait until each has exactly one good answer."""
        replies = [self.reply(name) for name in names]
        counts = [self.client.llen(keys.reply(self.model, self._entries[name][0], name)) for name in names]
        return all(reply.fault is None for reply in replies) and set(counts) == {1}

    def runs(self) -> list[tuple[int, list[str]]]:
        """Batches in the order of running, of all consumers: rows and names."""
        lines = [line for path in sorted(self._folder.glob("runs-*")) for line in path.read_text().splitlines()]
        return [(int(line.split()[0]), line.split()[1:]) for line in lines]

    def ran(self) -> Counter[str]:
        """How often each name was in a batch."""
        return Counter(name for _, names in self.runs() for name in names)

    def is_empty(self, lane: str) -> bool:
        """Say whether nothing waits or runs in a lane."""
        return bool(self.client.xlen(keys.work(self.model, lane)) == 0)

    def close(self) -> None:
        """Close the connection."""
        self.client.close()
