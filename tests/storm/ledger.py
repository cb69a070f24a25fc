"""The account of every request that was sent: how each ended, and what should never have happened. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

DIGEST_BYTES = 16
MOST_SHOWN = 50
LATEST = 4000
"""As many as are answered in ten seconds or so."""


class Kind(StrEnum):
    """How a request was sent: through REST, with an id, an idempotency key or neither, or directly."""

    OWN = "REST, own id"
    KEY = "REST, key"
    MADE = "REST, made id"
    SIMPLE = "direct, simple"
    FAST = "direct, fast"


class Task(StrEnum):
    """What the model is told to do."""

    PLAIN = "plain"
    RAISE = "raise"
    KILL = "kill"


class End(StrEnum):
    """How a request ended.

    Attributes:
        ANSWERED: with the right content, or with the error that the model was told to raise.
        REFUSED: it was not let in, and its client gave it up.
        EXPIRED: its time was over before it ran.
        DEAD: a dead letter, and its sender was told.
        ORPHANED: its front end died and with it the id that was made up there, so nobody can ask for it.
        LEFT: its client closed the connection, and nobody knows its id.
        LOST: none of these.
    """

    ANSWERED = "answered"
    REFUSED = "refused"
    EXPIRED = "expired"
    DEAD = "dead"
    ORPHANED = "orphaned"
    LEFT = "left"
    LOST = "lost"


def answer_to(body: bytes) -> bytes:
    """Return what the model answers to ``body``."""
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest() + body


def body_of(task: Task, nonce: str, padding: int = 0) -> bytes:
    """Return the body of a request: what to do, the name that no other request has, and bytes to make it longer."""
    return f"{task} {nonce} ".encode() + bytes(padding)


def nonce_of(body: bytes) -> str:
    """Return the name in a body; empty when there is none."""
    parts = body.split(b" ", 2)
    return parts[1].decode(errors="replace") if len(parts) == 3 else ""


@dataclass(slots=True)
class Case:
    """One request.

    Attributes:
        nonce: a name no other request has, part of its body.
        request_id: its id, empty while only a front end knows it.
        ttl_ms: its time to live.
        sent_s: when it was sent first, on the event loop's clock.
        tries: how often it was sent.
    """

    kind: Kind
    task: Task
    nonce: str
    body: bytes
    request_id: str
    ttl_ms: int
    sent_s: float
    tries: int = 0
    end: End | None = None
    took_s: float = 0.0


@dataclass
class Ledger:
    """All cases.

    Attributes:
        wrong, crossed: answers whose content belongs to no request, or to another one.
        broken: sentences about what should never have happened; the first of them are kept.
        breaches: how many there were of each sort.
        seen: what happened on the way and is no fault: refusals, repeats, connections lost with their front end.
        hostile_messages: what hostile clients put straight into a lane.
        latest: when the requests were sent that were answered last, without those of the other lane.
    """

    cases: dict[str, Case] = field(default_factory=dict)
    open: dict[str, Case] = field(default_factory=dict)
    ends: Counter[End] = field(default_factory=Counter)
    by_kind: Counter[tuple[Kind, str]] = field(default_factory=Counter)
    wrong: int = 0
    crossed: int = 0
    broken: list[str] = field(default_factory=list)
    breaches: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    hostile_messages: set[bytes] = field(default_factory=set)
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))

    def send(self, kind: Kind, task: Task, request_id: str, ttl_ms: int, now_s: float, padding: int = 0) -> Case:
        """Open the account of a new request; ``request_id`` may be left empty, and is the nonce when it is ``*``."""
        nonce = f"n{len(self.cases):07d}"
        own = f"storm-{nonce}" if request_id == "*" else request_id
        case = Case(kind, task, nonce, body_of(task, nonce, padding), own, ttl_ms, now_s)
        self.cases[nonce] = self.open[nonce] = case
        self.by_kind[kind, "sent"] += 1
        return case

    def close(self, case: Case, end: End, now_s: float) -> None:
        """Note how a request ended; a second end is a breach."""
        if case.end is not None:
            self.breach("two ends", f"{case.nonce} ended as {case.end} and then as {end}.")
            return
        case.end, case.took_s = end, now_s - case.sent_s
        del self.open[case.nonce]
        self.ends[end] += 1
        self.by_kind[case.kind, end] += 1
        self.longest_s = max(self.longest_s, case.took_s)
        if end is End.ANSWERED and case.kind is not Kind.FAST:
            self.latest.append(case.sent_s)
        if end is End.LOST:
            self.breach("lost", f"{case.nonce} ({case.kind}, id {case.request_id or 'unknown'}) is lost.")

    def overtakers(self, sent_s: float) -> int:
        """Return how many requests have been answered that were sent after ``sent_s``."""
        return sum(other_s > sent_s for other_s in self.latest)

    def check(self, case: Case, content: bytes) -> bool:
        """Hold an answer's content against what it must be; False, and a breach, when it is something else."""
        if content == answer_to(case.body):
            return True
        other = self.cases.get(nonce_of(content[DIGEST_BYTES:]))
        if other is not None and other is not case and content == answer_to(other.body):
            self.crossed += 1
            self.breach("crossed", f"{case.nonce} was given the answer to {other.nonce}.")
        else:
            self.wrong += 1
            self.breach("wrong", f"{case.nonce} was given {content[:64]!r}.")
        return False

    def breach(self, sort: str, sentence: str) -> None:
        """Note something that should never have happened."""
        self.breaches[sort] += 1
        if len(self.broken) < MOST_SHOWN:
            self.broken.append(sentence)

    def is_clean(self) -> bool:
        """Say whether every request is accounted for and nothing happened that should not."""
        return not self.breaches and not self.open and sum(self.ends.values()) == len(self.cases)

    def document(self) -> dict[str, Any]:
        """Return the account as JSON."""
        return {
            "sent": len(self.cases),
            **{end.value: self.ends[end] for end in End},
            "open": len(self.open),
            "wrong": self.wrong,
            "crossed": self.crossed,
            "longest_s": round(self.longest_s, 3),
            "by_kind": {
                kind.value: {what: self.by_kind[kind, what] for what in ("sent", *End) if self.by_kind[kind, what]}
                for kind in Kind
            },
            "seen": dict(sorted(self.seen.items())),
            "breaches": dict(sorted(self.breaches.items())),
            "broken": self.broken,
        }
