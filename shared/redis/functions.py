"""The Redis functions' names, and the command that calls each of them; ``docs/protocol.md`` says what they do. Pure.

``work`` is always the key of a lane's work stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from shared.limits import (
    DEAD_LETTERS_BYTES,
    DEAD_LETTERS_CAP,
    FRAME_STREAM_CAP,
    HINT_LIMIT_BYTES,
    REPLY_STREAM_CAP,
)

ADMIT = "hr1_admit"
COMMIT = "hr1_commit"
HEARTBEAT = "hr1_heartbeat"
LEAVE = "hr1_leave"
RENEW = "hr1_renew"
RECLAIM = "hr1_reclaim"
CLAIMED = "hr1_claimed"
BEGIN = "hr1_begin"
DEAD = "hr1_dead"
REAP = "hr1_reap"
REQUEUE = "hr1_requeue"
REQUEUE_WITHIN = "hr1_requeue_within"
LETTERS = "hr1_letters"
LANES = "hr1_lanes"
REPAIR = "hr1_repair"
CANCEL = "hr1_cancel"
ASK = "hr1_ask"
ANSWERED = "hr1_answered"
BYTES = "hr1_bytes"
VERSION = "hr1_version"
LATER = "hr1_later"
JOB = "hr1_job"
LINE = "hr1_line"
OVERDUE = "hr1_overdue"
WEBHOOK_EVENT = "hr1_webhook_event"
WEBHOOK_ROOM = "hr1_webhook_room"
WEBHOOK_CLAIM = "hr1_webhook_claim"
WEBHOOK_STEP = "hr1_webhook_step"
WEBHOOK_RETRY = "hr1_webhook_retry"
BULK_OPEN = "hr1_bulk_open"
BULK_CLAIM = "hr1_bulk_claim"
BULK_SAVE = "hr1_bulk_save"
BULK_CANCEL = "hr1_bulk_cancel"
BULK_FORGET = "hr1_bulk_forget"
EMIT = "hr1_emit"
HAND_OVER = "hr1_hand_over"


NOT_ASKED_BEFORE = "0"
"""The check of an id that nobody can have used before."""

Command = list[Any]


class Completion(Protocol):
    """One request that ends.

    Attributes:
        reply_to: instance whose reply stream gets a hint; empty for none.
        expiry_ms: how long the reply stays; 0 stores nothing and only hints.
        reply: the encoded reply.
    """

    @property
    def entry_id(self) -> bytes: ...
    @property
    def request_id(self) -> str: ...
    @property
    def reply_to(self) -> str: ...
    @property
    def expiry_ms(self) -> int: ...
    @property
    def reply(self) -> bytes: ...


class Letter(Protocol):
    """One request that ends as a dead letter; an empty ``request_id`` if it gets no reply."""

    @property
    def completion(self) -> Completion: ...
    @property
    def reason(self) -> str: ...
    @property
    def crashes(self) -> int: ...


class Emission(Protocol):
    """One frame of an answer that is still being made.

    Attributes:
        reply_to: instance whose reply stream gets the frame, too; empty for none.
        expiry_ms: how long the record stays from now on; 0 leaves that as it is.
        seq: number of the frame in its record, from 0.
    """

    @property
    def entry_id(self) -> bytes: ...
    @property
    def request_id(self) -> str: ...
    @property
    def reply_to(self) -> str: ...
    @property
    def expiry_ms(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def frame(self) -> bytes: ...


def check(ttl_ms: int, expiry_ms: int, fingerprint: str) -> str:
    """Return the check of an id that may be in flight, which Redis remembers for ``expiry_ms`` from now on."""
    return f"1:{ttl_ms}:{expiry_ms}:{fingerprint}"


def admit(
    work: str,
    limit: int,
    instance: str,
    cursor: bytes | str,
    acknowledged: Sequence[str],
    requests: Sequence[tuple[str, str, Any]],
) -> Command:
    """Put requests, each an id, its check and its message, into a lane of at most ``limit``."""
    command: Command = ["FCALL", ADMIT, 1, work, limit, instance, cursor, len(acknowledged), len(requests)]
    command += acknowledged
    for request in requests:
        command += request
    return command


def commit(
    work: str,
    stream_ms: int,
    completions: Iterable[Completion],
    *,
    cap: int = REPLY_STREAM_CAP,
    hint_limit_bytes: int = HINT_LIMIT_BYTES,
) -> Command:
    """End requests; ``stream_ms`` is how long a reply stream stays after its last hint."""
    command: Command = ["FCALL", COMMIT, 1, work, cap, stream_ms, hint_limit_bytes]
    for one in completions:
        command += (one.entry_id, one.request_id, one.reply_to, one.expiry_ms, one.reply)
    return command


def answered(work: str, stream_ms: int, completions: Iterable[Completion]) -> Command:
    """End requests whose id has a reply already; what they end with does not matter."""
    command: Command = ["FCALL", ANSWERED, 1, work, REPLY_STREAM_CAP, stream_ms]
    for one in completions:
        command += (one.entry_id, one.request_id, one.reply_to)
    return command


def dead(
    work: str,
    stream_ms: int,
    letters: Iterable[Letter],
    *,
    most: int = DEAD_LETTERS_CAP,
    most_bytes: int = DEAD_LETTERS_BYTES,
) -> Command:
    """End requests as dead letters."""
    command: Command = ["FCALL", DEAD, 1, work, REPLY_STREAM_CAP, stream_ms, HINT_LIMIT_BYTES, most, most_bytes]
    for one in letters:
        end = one.completion
        command += (end.entry_id, end.request_id, end.reply_to, end.expiry_ms, end.reply, one.reason, one.crashes)
    return command


def heartbeat(
    work: str, worker: str, lease_ms: int, lane_limit: int, state: Mapping[str, str], card: Mapping[str, Any]
) -> Command:
    """Say that a worker lives, what it says of itself, and its model's card."""
    fields = [part for pair in state.items() for part in pair]
    published = [part for pair in card.items() for part in pair]
    return ["FCALL", HEARTBEAT, 1, work, worker, lease_ms, lane_limit, len(fields), *fields, *published]


def leave(work: str, worker: str) -> Command:
    """Take a worker off the list."""
    return ["FCALL", LEAVE, 1, work, worker]


def renew(work: str, worker: str, entries: Iterable[bytes]) -> Command:
    """Renew the leases of a worker's entries."""
    return ["FCALL", RENEW, 1, work, worker, *entries]


def reclaim(work: str, worker: str, idle_ms: int, count: int) -> Command:
    """Take over entries whose lease has run out."""
    return ["FCALL", RECLAIM, 1, work, worker, idle_ms, count]


def claimed(work: str, worker: str, after: bytes | str, count: int) -> Command:
    """List what a worker holds behind an entry."""
    return ["FCALL", CLAIMED, 1, work, worker, after, count]


def begin(work: str, worker: str, entry_id: bytes, deliveries: int) -> Command:
    """Set an entry's count of deliveries."""
    return ["FCALL", BEGIN, 1, work, worker, entry_id, deliveries]


def reap(work: str, idle_ms: int) -> Command:
    """Take consumers that are gone out of the group."""
    return ["FCALL", REAP, 1, work, idle_ms]


def requeue(work: str, letters: Iterable[tuple[bytes | str, str]]) -> Command:
    """Put dead letters back, each by its entry among them and the request's id."""
    return ["FCALL", REQUEUE, 1, work, *(part for letter in letters for part in letter)]


def requeue_within(work: str, limit: int, letters: Iterable[str]) -> Command:
    """Put dead letters back as long as the lane has fewer requests than ``limit``, and room for their bytes."""
    return ["FCALL", REQUEUE_WITHIN, 1, work, limit, *letters]


def letters(work: str, begin: str, count: int, *, newest_first: bool) -> Command:
    """Ask what a lane's dead letters are, from one on, as XRANGE names it; without their messages."""
    return ["FCALL", LETTERS, 1, work, "newest" if newest_first else "oldest", begin, count]


def lanes(work: str) -> Command:
    """Make what is missing of the model's lanes, and list them."""
    return ["FCALL", LANES, 1, work]


def repair(work: str, most: int, ahead_ms: int | None = None) -> Command:
    """Recreate a lane; with ``ahead_ms`` only if its newest id lies so far in the future."""
    return ["FCALL", REPAIR, 1, work, most, *(() if ahead_ms is None else (ahead_ms,))]


def cancel(work: str, requests: Iterable[tuple[str, bytes | str]], *, tell: bool) -> Command:
    """Cancel requests, each by its id and entry; with an empty entry the one that is in flight for the id.

    Args:
        tell: those that may wait for the answer.
    """
    return ["FCALL", CANCEL, 1, work, str(int(tell)), *(part for request in requests for part in request)]


def ask(work: str, *request_ids: str) -> Command:
    """Ask how requests stand."""
    return ["FCALL", ASK, 1, work, *request_ids]


def lane_bytes(work: str) -> Command:
    """Ask what a lane takes."""
    return ["FCALL", BYTES, 1, work]


def version(work: str) -> Command:
    """Ask of which version the functions are."""
    return ["FCALL", VERSION, 1, work]


def later(work: str, limit: int, requests: Iterable[Sequence[Any]]) -> Command:
    """Put later requests into a lane, each a sequence of the function's eight arguments."""
    return ["FCALL", LATER, 1, work, limit, *(part for request in requests for part in request)]


def job(work: str, *request_ids: str) -> Command:
    """Ask for the records of later requests."""
    return ["FCALL", JOB, 1, work, *request_ids]


def line(work: str) -> Command:
    """Ask how far the lane's later requests have come."""
    return ["FCALL", LINE, 1, work]


def overdue(work: str, most: int) -> Command:
    """End later requests whose deadline has passed while no consumer had them."""
    return ["FCALL", OVERDUE, 1, work, most]


def webhook_event(work: str, subject_id: str, event: str, hook: str, detail: str = "") -> Command:
    """Have an event of a request or batch delivered, if its hook, in JSON, asks for it; ``detail`` is a JSON object."""
    return ["FCALL", WEBHOOK_EVENT, 1, work, subject_id, event, hook, detail]


def webhook_room(work: str) -> Command:
    """Ask whether the lane may take another request or batch with a webhook."""
    return ["FCALL", WEBHOOK_ROOM, 1, work]


def webhook_claim(work: str, lease_ms: int, most: int) -> Command:
    """Lease hosts at which webhooks may be due."""
    return ["FCALL", WEBHOOK_CLAIM, 1, work, lease_ms, most]


def webhook_step(
    work: str,
    host: bytes,
    token: int,
    *,
    lease_ms: int,
    longest_ms: int,
    count: int,
    pause_ms: int | None,
    busy: Sequence[str],
    ends: Iterable[tuple[str, str, str, int, str]],
) -> Command:
    """Note ends of attempts (subject, webhook id, result, delay in ms, reason), and take up to ``count`` of a host.

    Args:
        pause_ms: return the host instead, and let it rest for so long.
        busy: subjects that the caller has, which are not to be given again.
    """
    command: Command = ["FCALL", WEBHOOK_STEP, 1, work, host, token, lease_ms, longest_ms, count]
    command += ("" if pause_ms is None else pause_ms, len(busy), *busy)
    for end in ends:
        command += end
    return command


def webhook_retry(work: str, letters: Iterable[str]) -> Command:
    """Have webhooks delivered that were given up."""
    return ["FCALL", WEBHOOK_RETRY, 1, work, *letters]


def bulk_open(work: str, batch_id: str, most: int, lease_ms: int, fields: Mapping[str, str | int]) -> Command:
    """Make the record of a bulk batch, in a lane of at most ``most``."""
    has_hook = "1" if fields.get("hook") else "0"
    return ["FCALL", BULK_OPEN, 1, work, batch_id, most, lease_ms, has_hook, *_flat(fields)]


def bulk_claim(work: str, lease_ms: int) -> Command:
    """Take a bulk batch of the model that somebody has to look after."""
    return ["FCALL", BULK_CLAIM, 1, work, lease_ms]


def bulk_save(
    work: str, batch_id: str, epoch: str, attend_ms: int, part: str, fields: Mapping[str, str | int]
) -> Command:
    """Note what a bulk batch's driver has done; ``part`` is empty for no part of results."""
    return ["FCALL", BULK_SAVE, 1, work, batch_id, epoch, attend_ms, part, *_flat(fields)]


def bulk_cancel(work: str, batch_id: str) -> Command:
    """Have a bulk batch run nothing more."""
    return ["FCALL", BULK_CANCEL, 1, work, batch_id]


def bulk_forget(work: str, batch_id: str, epoch: str) -> Command:
    """Delete what Redis has of a bulk batch."""
    return ["FCALL", BULK_FORGET, 1, work, batch_id, epoch]


def emit(
    work: str, worker: str, stream_ms: int, emissions: Iterable[Emission], *, cap: int = FRAME_STREAM_CAP
) -> Command:
    """Write frames into the records of what a worker holds, and hint at them."""
    command: Command = ["FCALL", EMIT, 1, work, worker, cap, stream_ms]
    for one in emissions:
        command += (one.entry_id, one.request_id, one.reply_to, one.expiry_ms, one.seq, one.frame)
    return command


def hand_over(work: str, worker: str, idle_ms: int, entries: Iterable[bytes]) -> Command:
    """Let the leases of a worker's entries end; ``idle_ms`` is a lease."""
    return ["FCALL", HAND_OVER, 1, work, worker, idle_ms, *entries]


def _flat(fields: Mapping[str, str | int]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]
