"""One lane to test on, in memory or on a real server, with eyes to look into it from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import redis

from consumer.queue.interface import WorkStream
from consumer.queue.redis_stream import RedisStream
from shared import keys
from shared.redis import functions, library
from shared.redis.client import connect
from shared.settings import Settings
from shared.state import desired_state, lanes
from shared.state.cards import BatchSettings, Card, TensorSpec
from shared.state.desired_state import DesiredPrecision, Serving
from tests.fake_stream import InMemoryLane, InMemoryStream

LANE = keys.DEFAULT_LANE


def settings(url: str | None = None, lease_ms: int = 15_000) -> Settings:
    """Settings with the lease that a test wants; a read blocks for a fifteenth of it."""
    environment = {"HEADRACE_LEASE_MS": str(lease_ms)}
    if url is not None:
        environment["HEADRACE_REDIS_URL"] = url
    return Settings.from_env(environment)


def card(model: str) -> Card:
    """Some card."""
    spec = (TensorSpec("input", "UINT8", (-1,)),)
    batch = BatchSettings(8, 5.0, "window")
    return Card(model, "1", "echo", spec, spec, ("application/octet-stream",), "fp32", "cpu", batch)


class Lane(Protocol):
    """What the contract suite needs beside the work stream itself."""

    model: str

    def stream(self, worker: str, lease_ms: int = 15_000) -> WorkStream:
        """One consumer's view."""

    def other(self, name: str, weight: float = 1.0, *, is_batch: bool = False) -> Lane:
        """Another lane of the model, perhaps of kind ``batch``, from the next heartbeat on.

        ``stream`` is to be asked of the first only.
        """

    def add(self, message: bytes, field: str = "m") -> bytes | None:
        """Add an entry, unless there is no stream."""

    def delete(self, entry_id: bytes) -> None:
        """Delete an entry behind the consumers' backs."""

    def cancel(self, entry_id: bytes) -> None:
        """Take an entry away, whoever holds it, and tell the consumers."""

    def reply(self, request_id: str) -> bytes | None:
        """The stored reply."""

    def reply_count(self, request_id: str) -> int:
        """How many replies the reply key holds."""

    def reply_expires(self, request_id: str) -> bool:
        """Whether the stored reply has an end."""

    def hints(self, instance: str) -> list[tuple[str, bytes | None]]:
        """Ids and replies in a reply stream."""

    def dead(self) -> list[tuple[str, int, bytes]]:
        """Reason, crashes and message of each dead letter."""

    def length(self) -> int:
        """Entries in the work stream."""

    def consumers(self) -> set[str]:
        """Consumers of the group."""

    def workers(self) -> set[str]:
        """Workers on the list."""

    def card_fields(self) -> Mapping[bytes, bytes]:
        """The published card."""

    def want_precision(self, precision: str, token: str) -> None:
        """Make an operator's wish."""

    def serve_as(self, serving: Serving) -> None:
        """Make the operator's other wish."""

    def limit_bytes(self, count: int) -> None:
        """Say what its requests and stored replies may take."""

    def lose_group(self) -> None:
        """Delete the group and leave the stream."""

    def flush(self) -> None:
        """Delete every key of the model."""

    def close(self) -> None:
        """Close what was opened."""


class MemoryLane:
    """See :class:`Lane`."""

    def __init__(self, model: str, lane: InMemoryLane | None = None) -> None:
        self.model = model
        self.lane = lane or InMemoryLane()

    def other(self, name: str, weight: float = 1.0, *, is_batch: bool = False) -> Lane:
        """See the interface."""
        return MemoryLane(self.model, self.lane.create(name, weight, is_batch=is_batch))

    def stream(self, worker: str, lease_ms: int = 15_000) -> WorkStream:
        """See the interface."""
        return InMemoryStream(self.lane, settings(lease_ms=lease_ms), worker)

    def add(self, message: bytes, field: str = "m") -> bytes | None:
        """See the interface."""
        return self.lane.add({field.encode(): message})

    def delete(self, entry_id: bytes) -> None:
        """See the interface."""
        self.lane.delete(entry_id)

    def cancel(self, entry_id: bytes) -> None:
        """See the interface."""
        self.lane.cancel(entry_id)

    def reply(self, request_id: str) -> bytes | None:
        """See the interface."""
        return self.lane.reply(request_id)

    def reply_count(self, request_id: str) -> int:
        """See the interface."""
        return int(self.lane.reply(request_id) is not None)

    def reply_expires(self, request_id: str) -> bool:
        """See the interface."""
        return request_id in self.lane.replies

    def hints(self, instance: str) -> list[tuple[str, bytes | None]]:
        """See the interface."""
        return list(self.lane.hints.get(instance, ()))

    def dead(self) -> list[tuple[str, int, bytes]]:
        """See the interface."""
        return list(self.lane.dead)

    def length(self) -> int:
        """See the interface."""
        return len(self.lane.stream.entries) if self.lane.stream else 0

    def consumers(self) -> set[str]:
        """See the interface."""
        group = self.lane.stream.group if self.lane.stream else None
        return set(group.consumers) if group else set()

    def workers(self) -> set[str]:
        """See the interface."""
        return set(self.lane.workers)

    def card_fields(self) -> Mapping[bytes, bytes]:
        """See the interface."""
        return {name.encode(): value for name, value in self.lane.card.items()}

    def want_precision(self, precision: str, token: str) -> None:
        """See the interface."""
        self.lane.desired_precision = DesiredPrecision(precision, token)

    def serve_as(self, serving: Serving) -> None:
        """See the interface."""
        self.lane.serving = serving

    def limit_bytes(self, count: int) -> None:
        """See the interface."""
        self.lane.limit_bytes = count

    def lose_group(self) -> None:
        """See the interface."""
        self.lane.lose_group()

    def flush(self) -> None:
        """See the interface."""
        self.lane.flush()

    def close(self) -> None:
        """See the interface."""


class RedisLane:
    """See :class:`Lane`."""

    def __init__(self, model: str, url: str, name: str = LANE) -> None:
        self.model, self.name = model, name
        self.url = url
        self._streams: list[RedisStream] = []
        self._others: list[RedisLane] = []
        self.client: redis.Redis = connect(url)
        self.work = keys.work(model, name)
        if name == LANE:
            library.load(self.client)

    def other(self, name: str, weight: float = 1.0, *, is_batch: bool = False) -> Lane:
        """See the interface."""
        self.client.hset(keys.lanes(self.model), name, lanes.encode(1000, weight))
        if is_batch:
            self.client.hset(keys.lanes(self.model), lanes.kind_field(name), lanes.BATCH)
        self._others.append(RedisLane(self.model, self.url, name))
        return self._others[-1]

    def stream(self, worker: str, lease_ms: int = 15_000) -> WorkStream:
        """See the interface."""
        made = RedisStream(settings(self.url, lease_ms), self.model, worker)
        self._streams.append(made)
        return made

    def add(self, message: bytes, field: str = "m") -> bytes | None:
        """See the interface."""
        added: Any = self.client.xadd(self.work, {field: message}, nomkstream=True)
        return added if added is None else bytes(added)

    def delete(self, entry_id: bytes) -> None:
        """See the interface."""
        self.client.xdel(self.work, entry_id)

    def cancel(self, entry_id: bytes) -> None:
        """See the interface."""
        self.client.execute_command(*functions.cancel(self.work, [("any", entry_id)], tell=True))

    def reply(self, request_id: str) -> bytes | None:
        """See the interface."""
        found: Any = self.client.lindex(keys.reply(self.model, self.name, request_id), 0)
        return found if found is None else bytes(found)

    def reply_count(self, request_id: str) -> int:
        """See the interface."""
        count: Any = self.client.llen(keys.reply(self.model, self.name, request_id))
        return int(count)

    def reply_expires(self, request_id: str) -> bool:
        """See the interface."""
        left_ms: Any = self.client.pttl(keys.reply(self.model, self.name, request_id))
        return int(left_ms) > 0

    def hints(self, instance: str) -> list[tuple[str, bytes | None]]:
        """See the interface."""
        found: Any = self.client.xrange(keys.reply_stream(self.model, self.name, instance))
        return [(fields[b"id"].decode(), fields.get(b"reply")) for _, fields in found]

    def dead(self) -> list[tuple[str, int, bytes]]:
        """See the interface."""
        found: Any = self.client.xrange(keys.dead_letters(self.model, self.name))
        return [(one[b"reason"].decode(), int(one[b"crashes"]), one[b"m"]) for _, one in found]

    def length(self) -> int:
        """See the interface."""
        count: Any = self.client.xlen(self.work)
        return int(count)

    def consumers(self) -> set[str]:
        """See the interface."""
        found: Any = self.client.xinfo_consumers(self.work, keys.GROUP)
        return {one["name"].decode() for one in found}

    def workers(self) -> set[str]:
        """See the interface."""
        found: Any = self.client.zrange(keys.workers(self.model), 0, -1)
        return {name.decode() for name in found}

    def card_fields(self) -> Mapping[bytes, bytes]:
        """See the interface."""
        found: Any = self.client.hgetall(keys.card(self.model))
        return dict(found)

    def want_precision(self, precision: str, token: str) -> None:
        """See the interface."""
        self.client.hset(
            keys.desired_state(self.model), mapping={desired_state.PRECISION: precision, desired_state.TOKEN: token}
        )

    def serve_as(self, serving: Serving) -> None:
        """See the interface."""
        self.client.hset(keys.desired_state(self.model), desired_state.SERVING, serving)

    def limit_bytes(self, count: int) -> None:
        """See the interface."""
        self.client.hset(keys.lanes(self.model), lanes.bytes_field(self.name), lanes.encode_bytes(count))

    def lose_group(self) -> None:
        """See the interface."""
        self.client.xgroup_destroy(self.work, keys.GROUP)

    def flush(self) -> None:
        """See the interface."""
        found: Any = list(self.client.scan_iter(match=f"hr:{{{self.model}}}:*", count=1000))
        if found:
            self.client.unlink(*found)
        self.client.zrem(keys.MODELS, self.model)

    def close(self) -> None:
        """See the interface."""
        self.flush()
        for stream in self._streams:
            stream.close()
        for other in self._others:
            other.client.close()
        self.client.close()
