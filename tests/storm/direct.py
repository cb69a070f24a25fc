"""Producers that speak to the queue themselves, in both tiers of docs/protocol.md [I/O]."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from typing import Any

from shared import keys
from shared.redis.client import OutOfMemory, RedisError, connect_async
from shared.wire.messages import Request, decode_reply, encode_request
from tests.storm.ledger import Case, End, Kind, Task
from tests.storm.rest import LONG_TTL_MS, THINK_S, Load

BLOCK_S = 1
LOOK_S = 1.0
RETRY_S = 0.2
EARLY_MS = 50
"""A consumer's estimate of Redis's clock may be off by half a round trip: so much earlier than its deadline a request
may be found expired."""


class Producer:
    """What both tiers share: a client, and knowing how a request ended."""

    def __init__(self, load: Load, url: str, model: str, lane: str, rng: random.Random) -> None:
        self._load, self._model, self._lane, self._rng = load, model, lane, rng
        self._redis = connect_async(url, BLOCK_S + 4.0)
        self._work = keys.work(model, lane)

    def _message(self, case: Case, instance: str | None = None) -> bytes:
        return encode_request(
            Request(case.request_id, case.ttl_ms, "application/octet-stream", case.body, reply_to=instance)
        )

    def _reply_key(self, case: Case) -> str:
        return keys.reply(self._model, self._lane, case.request_id)

    def _read(self, case: Case, message: bytes) -> None:
        reply = decode_reply(message)
        if reply.id != case.request_id:
            self._load.ledger.breach("crossed", f"{case.nonce}: the reply key of {case.request_id} holds {reply.id}.")
        content = None if reply.outputs is None else bytes(reply.outputs[0].data)
        self._load.answered(case, "ok" if reply.fault is None else reply.fault.code, content)

    async def _look(self, case: Case, entry: bytes | None) -> bool:
        """Look at a request's reply and entry in one step; say whether it is not under way any more.

        Raises:
            RedisError: Redis did not answer.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.lindex(self._reply_key(case), 0)
            pipe.xrange(self._work, entry or "0-0", entry or "0-0")
            pipe.time()
            reply, found, (seconds, microseconds) = await pipe.execute()
        if reply is not None:
            self._read(case, reply)
            return True
        if entry is None:
            return True
        if found:
            return False
        late_ms = seconds * 1000 + microseconds // 1000 - int(entry.partition(b"-")[0]) - case.ttl_ms
        if late_ms < -EARLY_MS:
            sentence = f"{case.nonce}: entry {entry.decode()} ended without a reply {-late_ms} ms before its deadline."
            self._load.ledger.breach("ended early", sentence)
        self._load.ledger.seen["direct: expired"] += 1
        if case.ttl_ms < LONG_TTL_MS or case.task is Task.KILL:
            self._load.ledger.close(case, End.EXPIRED, time.monotonic())
        return True


class SimpleProducer(Producer):
    """One request, one wait, each under a name of its own."""

    async def run(self) -> None:
        """Send until told to stop."""
        try:
            while not self._load.stop.is_set():
                case = self._load.new(Kind.SIMPLE, self._rng)
                while case.end is None:
                    with contextlib.suppress(RedisError, OSError):
                        await self._once(case)
                        continue
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep(self._rng.expovariate(1 / THINK_S))
        finally:
            await self._redis.aclose()

    async def _once(self, case: Case) -> None:
        """Add a request whose reply is not there yet, and wait for its end."""
        if case.tries and await self._look(case, None) and case.end is not None:
            return
        case.tries += 1
        instance = f"simple-{secrets.token_hex(8)}"
        try:
            entry: Any = await self._redis.xadd(self._work, {"m": self._message(case, instance)}, nomkstream=True)
        except OutOfMemory:
            self._load.ledger.close(case, End.REFUSED, time.monotonic())
            return
        stream, cursor = keys.reply_stream(self._model, self._lane, instance), b"0-0"
        while True:
            try:
                hints: Any = await self._redis.xread({stream: cursor}, block=BLOCK_S * 1000)
                for hint_id, hint in hints[0][1] if hints else ():
                    cursor = hint_id
                    if hint.get(b"reply") and b"entry" not in hint:
                        self._read(case, hint[b"reply"])
                        return
                if await self._look(case, entry):
                    return
            except (RedisError, OSError):
                self._load.ledger.seen["direct: wait interrupted"] += 1
                await asyncio.sleep(RETRY_S)


class FastProducer(Producer):
    """Many at once, all replies from one stream of its own."""

    def __init__(self, load: Load, url: str, model: str, lane: str, rng: random.Random, at_once: int) -> None:
        super().__init__(load, url, model, lane, rng)
        self._at_once = at_once
        self._instance = f"storm-{secrets.token_hex(4)}"
        self._stream, self._cursor = keys.reply_stream(model, lane, self._instance), b"0-0"
        self._waiting: dict[str, tuple[Case, bytes | None]] = {}
        self._unsure: list[Case] = []
        self._read_keys: list[str] = []

    async def run(self) -> None:
        """Send until told to stop and everything has ended."""
        next_look_s = 0.0
        try:
            while not self._load.stop.is_set() or self._waiting or self._unsure:
                try:
                    await self._ask_unsure()
                    if not self._load.stop.is_set():
                        count = self._rng.randint(0, max(0, self._at_once - len(self._waiting)))
                        await self._add([self._load.new(Kind.FAST, self._rng) for _ in range(count)])
                    await self._receive()
                    if time.monotonic() >= next_look_s:
                        await self._look_at_all()
                        next_look_s = time.monotonic() + LOOK_S
                except (RedisError, OSError):
                    self._load.ledger.seen["direct: wait interrupted"] += 1
                    next_look_s = 0.0
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep(self._rng.expovariate(1 / THINK_S))
        finally:
            await self._redis.aclose()

    async def _add(self, cases: list[Case]) -> None:
        """Add requests; where that cannot be known to have happened they are asked for again later."""
        if not cases:
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for case in cases:
                    case.tries += 1
                    pipe.xadd(self._work, {"m": self._message(case, self._instance)}, nomkstream=True)
                entries = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError):
            self._unsure += cases
            raise
        for case, entry in zip(cases, entries, strict=True):
            if isinstance(entry, bytes):
                self._waiting[case.request_id] = (case, entry)
            elif isinstance(entry, OutOfMemory) and case.tries == 1:
                self._load.ledger.close(case, End.REFUSED, time.monotonic())
            else:
                self._unsure.append(case)

    async def _ask_unsure(self) -> None:
        """Look for the replies of those of which nothing is known; add again those that have none."""
        for case in self._unsure:
            if case.end is None:
                await self._look(case, None)
        again, self._unsure = [case for case in self._unsure if case.end is None], []
        await self._add(again)

    async def _receive(self) -> None:
        hints: Any = await self._redis.xread({self._stream: self._cursor}, count=1000, block=500)
        for entry_id, fields in hints[0][1] if hints else ():
            self._cursor = entry_id
            known = self._waiting.get(fields[b"id"].decode())
            if known is None or b"entry" in fields:
                continue
            case, entry = known
            if fields.get(b"reply"):
                self._read(case, fields[b"reply"])
                self._ended(case)
            elif await self._look(case, entry):
                self._ended(case)
        if self._read_keys:
            read, self._read_keys = self._read_keys, []
            await self._redis.unlink(*read)

    def _ended(self, case: Case) -> None:
        del self._waiting[case.request_id]
        if case.end is None:
            self._unsure.append(case)
        else:
            self._read_keys.append(self._reply_key(case))

    async def _look_at_all(self) -> None:
        now_s = time.monotonic()
        for case, entry in list(self._waiting.values()):
            if now_s - case.sent_s > LOOK_S and await self._look(case, entry):
                self._ended(case)
