"""Clients of the front ends, who behave as docs/rest.md says [I/O]."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from typing import Any

from tests.storm.carrier import Answer, BrokenError, Http, NotSentError
from tests.storm.inquiry import Inquiry, id_of
from tests.storm.ledger import Case, End, Kind, Ledger, Task
from tests.storm.world import NEW_S, Child

THINK_S = 0.08
AFTER_S = 6.0
"""So much longer than its time to live a client waits for an answer before it counts the connection as broken."""
LONG_TTL_MS = 4000
DYING_S = 0.2
"""A process that is being killed may take connections so long, and its end is noticed within that time."""
KILL_TTL_MS = 8000
"""Long enough for three deaths and the searches between them."""
SHARES = {Task.PLAIN: 0.9895, Task.RAISE: 0.01, Task.KILL: 0.0005}
GIVE_UP_SHARE, ASK_AGAIN_SHARE, SHORT_SHARE, LARGE_SHARE = 0.3, 0.05, 0.05, 0.03
LEAVE_SHARE = 0.02
LOOK_TIMEOUT_S = 8.0
CLEAN = {"lane_full", "wait_too_long", "client_limit", "no_worker", "loading", "overloaded", "queue_out_of_memory"}
"""Refusals after which nothing was admitted for certain. Others leave it open, and the same id is asked again."""


@dataclass
class Load:
    """What all clients share.

    Attributes:
        stop: set when no new requests are to be sent.
        poison: some requests kill their consumer.
    """

    ledger: Ledger
    stop: asyncio.Event
    poison: bool = True

    def new(self, kind: Kind, rng: random.Random) -> Case:
        """Draw the next request. Some are too long for Lua and for hints, some have hardly any time."""
        task = rng.choices(list(SHARES), list(SHARES.values()))[0]
        if task is Task.KILL and not self.poison:
            task = Task.PLAIN
        padding = rng.randrange(17_000, 40_000) if rng.random() < LARGE_SHARE else rng.randrange(0, 400)
        ttl_ms = rng.randrange(20, 300) if rng.random() < SHORT_SHARE else LONG_TTL_MS
        if task is Task.KILL:
            ttl_ms = KILL_TTL_MS
        return self.ledger.send(kind, task, "" if kind is Kind.MADE else "*", ttl_ms, time.monotonic(), padding)

    def answered(self, case: Case, code: str, content: bytes | None) -> None:
        """Close a case with a reply: ``code`` is ``ok`` or that of the error."""
        now_s = time.monotonic()
        if code == "ok":
            fits = content is not None and self.ledger.check(case, content)
            if fits and case.task is not Task.PLAIN:
                self.ledger.breach("should have failed", f"{case.nonce} was to {case.task}, and was answered.")
            self.ledger.close(case, End.ANSWERED, now_s)
        elif code == "crashed":
            self.ledger.close(case, End.DEAD, now_s)
        else:
            if not (code == "model_error" and case.task is Task.RAISE):
                self.ledger.breach("unexpected error", f"{case.nonce} ({case.task}) was answered with {code}.")
            self.ledger.close(case, End.ANSWERED, now_s)


class RestClient:
    """Asks one request after another, each until its end is known."""

    def __init__(
        self, load: Load, inquiry: Inquiry, front_ends: list[Child], model: str, kind: Kind, rng: random.Random
    ) -> None:
        self._load, self._inquiry, self._front_ends, self._kind, self._rng = load, inquiry, front_ends, kind, rng
        self._target, self._requests = f"/v1/models/{model}/predict", f"/v1/models/{model}/requests/"
        self._connections = {child.name: Http(child.port) for child in front_ends}

    async def run(self) -> None:
        """Ask until told to stop; whatever is under way then is asked to its end."""
        load, rng = self._load, self._rng
        try:
            while not load.stop.is_set():
                case = load.new(self._kind, rng)
                if self._kind is Kind.MADE and rng.random() < LEAVE_SHARE:
                    await self._leave(case)
                    continue
                await self._to_its_end(case)
                if case.end is End.ANSWERED and case.request_id and rng.random() < ASK_AGAIN_SHARE:
                    await self._repeat(case)
                await asyncio.sleep(rng.expovariate(1 / THINK_S))
        finally:
            for connection in self._connections.values():
                connection.close()

    async def _leave(self, case: Case) -> None:
        """Send a request and go away, mostly before it is answered."""
        child = self._rng.choice(self._front_ends)
        with contextlib.suppress(NotSentError, BrokenError):
            await self._connections[child.name].post(
                f"{self._target}?timeout_ms={case.ttl_ms}", case.body, self._rng.uniform(0.001, 0.02)
            )
        self._load.ledger.close(case, End.LEFT, time.monotonic())

    async def _to_its_end(self, case: Case) -> None:
        load, seen = self._load, self._load.ledger.seen
        maybe = False
        while case.end is None:
            child = self._rng.choice(self._front_ends)
            ttl_ms = case.ttl_ms if case.tries == 0 else max(case.ttl_ms, LONG_TTL_MS)
            try:
                answer = await self._ask(child, case, ttl_ms)
            except NotSentError:
                seen["front end away"] += 1
                await asyncio.sleep(self._rng.uniform(0.05, 0.3))
                continue
            except BrokenError as error:
                await self._explain(child, case, error)
                if not case.request_id:
                    load.ledger.close(case, End.ORPHANED, time.monotonic())
                    return
                await self._get(case, id_of(case))
                maybe = True
                continue
            code = self._code(answer)
            seen[f"{answer.status} {code}"] += 1
            if answer.status == 504 and ttl_ms >= LONG_TTL_MS and await self._is_lost(child, case, answer, ttl_ms):
                load.ledger.close(case, End.LOST, time.monotonic())
                return
            if answer.status == 200 or code in ("model_error", "crashed"):
                load.answered(case, code, self._content(answer))
            elif code == "expired":
                if case.ttl_ms < LONG_TTL_MS or case.task is Task.KILL:
                    load.ledger.close(case, End.EXPIRED, time.monotonic())
            elif code in CLEAN:
                if not maybe and self._rng.random() < GIVE_UP_SHARE:
                    load.ledger.close(case, End.REFUSED, time.monotonic())
                    return
                await self._wait(answer)
            elif answer.status in (503, 504):
                maybe = True
                case.request_id = case.request_id or answer.body["error"]["id"] or ""
                if not case.request_id:  # refused before it had an id
                    load.ledger.close(case, End.REFUSED, time.monotonic())
                    return
                if answer.status == 503:
                    await self._wait(answer)
            else:
                load.ledger.breach("unexpected answer", f"{case.nonce}: {answer.status} {answer.body}")
                load.ledger.close(case, End.ANSWERED, time.monotonic())

    async def _ask(self, child: Child, case: Case, ttl_ms: int) -> Answer:
        case.tries += 1
        name = f"&id={case.request_id}" if case.request_id and case.kind is not Kind.KEY else ""
        header = f"Idempotency-Key: {case.request_id}\r\n" if case.kind is Kind.KEY else ""
        target = f"{self._target}?timeout_ms={ttl_ms}{name}"
        self._sent_s = time.monotonic()
        answer = await self._connections[child.name].post(target, case.body, ttl_ms / 1000 + AFTER_S, header)
        self._inquiry.note_calm(time.monotonic() - self._sent_s)
        late_s = time.monotonic() - self._sent_s - ttl_ms / 1000
        if child.troubled_s < self._sent_s - NEW_S and not child.paused:
            late_ms = round(late_s * 1000)
            self._load.ledger.seen["latest answer after its deadline, ms"] = max(
                self._load.ledger.seen["latest answer after its deadline, ms"], late_ms
            )
        return answer

    async def _explain(self, child: Child, case: Case, error: BrokenError) -> None:
        """A connection may break because its front end was killed or paused, and for no other reason."""
        await asyncio.sleep(DYING_S)
        has_died = child.died_s >= self._connections[child.name].opened_s - DYING_S
        if has_died or child.paused or child.troubled_s >= self._sent_s:
            self._load.ledger.seen["connection lost with its front end"] += 1
        else:
            sentence = f"{case.nonce}: the connection to {child.name} broke ({error}), and nothing was done to it."
            self._load.ledger.breach("broken connection", sentence)

    async def _is_lost(self, child: Child, case: Case, answer: Answer, ttl_ms: int) -> bool:
        """A 504 needs a cause, and what GET says of the request must be so; say whether it is lost."""
        request_id = str(answer.body["error"]["id"] or "")
        if not request_id:
            return False
        lost = await self._inquiry.is_lost(case, request_id, child, self._sent_s, ttl_ms)
        await self._get(case, request_id)
        return lost

    async def _get(self, case: Case, request_id: str) -> None:
        """Look for a request without sending it again."""
        ledger, known = self._load.ledger, await self._inquiry.known(request_id)
        child = self._rng.choice(self._front_ends)
        try:
            answer = await self._connections[child.name].get(self._requests + request_id, LOOK_TIMEOUT_S)
        except (NotSentError, BrokenError):
            ledger.seen["GET: no answer"] += 1
            return
        code = "under way" if answer.status == 202 else self._code(answer)
        ledger.seen[f"GET: {answer.status} {code}"] += 1
        if answer.status == 200 and case.task is Task.PLAIN:
            ledger.check(case, self._content(answer) or b"")
        elif code == "unknown_request":
            if known and await self._inquiry.known(request_id) in (known, b"reply"):
                sentence = f"{case.nonce}: GET from {child.name} knows nothing of {request_id}; Redis knows {known!r}."
                ledger.breach("denied", sentence)
        elif answer.status not in (200, 202, 503) and code not in ("model_error", "crashed", "unknown_model"):
            ledger.breach("unexpected answer", f"{case.nonce}: GET {answer.status} {answer.body}")

    async def _repeat(self, case: Case) -> None:
        """Ask once more for what was answered: the answer must be the same, on whichever front end."""
        for _ in range(20):
            child = self._rng.choice(self._front_ends)
            try:
                answer = await self._ask(child, case, LONG_TTL_MS)
            except (NotSentError, BrokenError):
                await asyncio.sleep(0.1)
                continue
            if answer.status == 504:
                await self._is_lost(child, case, answer, LONG_TTL_MS)
            if answer.status in (429, 503, 504):
                await asyncio.sleep(0.2)
                continue
            self._load.ledger.seen["asked again after the answer"] += 1
            if case.task is Task.PLAIN and answer.status == 200:
                self._load.ledger.check(case, self._content(answer) or b"")
            elif self._code(answer) != "model_error":
                self._load.ledger.breach("another answer", f"{case.nonce}: asked again, {answer.status} {answer.body}")
            return

    async def _wait(self, answer: Answer) -> None:
        """Wait as long as the answer says, and a little more."""
        await asyncio.sleep(int(answer.headers.get("retry-after", "1")) * self._rng.uniform(1.0, 1.3))

    @staticmethod
    def _code(answer: Answer) -> str:
        body: Any = answer.body
        return "ok" if answer.status == 200 else str(body["error"]["code"])

    @staticmethod
    def _content(answer: Answer) -> bytes | None:
        return bytes(answer.body["outputs"][0]["data"]) if answer.status == 200 else None
