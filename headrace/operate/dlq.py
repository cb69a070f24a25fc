"""`headrace dlq`: look at dead letters, put them back into their lane, or drop them [I/O]."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from headrace.exit_codes import EXIT_FAILED, EXIT_USAGE
from headrace.output import confirm, print_json, print_table
from headrace.redis import inspection
from headrace.redis.access import end
from shared import keys
from shared.names import is_name
from shared.redis import functions
from shared.state.lanes import MOST_DIGITS
from shared.wire.messages import WireError, decode_request

PAGE = 500


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter: its id in the stream, why and after how many crashes it was given up, the request's id (empty
    when it cannot be read), and the original message."""

    entry: str
    reason: str
    crashes: int
    request_id: str
    message: bytes

    @property
    def age_ms(self) -> int:
        """POSIX time in ms, on Redis's clock, when it was given up."""
        return int(self.entry.partition("-")[0])


def check_lane(client: Any, model: str, lane: str) -> None:
    """End the process unless both names are names and the model is known."""
    if not is_name(model) or not is_name(lane):
        end("Model and lane must be 1 to 64 letters, digits, '_' or '-'.", EXIT_USAGE)
    if client.zscore(keys.MODELS, model) is None and not client.exists(keys.dead_letters(model, lane)):
        end(f"No consumer has ever served a model {model!r} here.", EXIT_USAGE)


def show_list(client: Any, model: str, lane: str, count: int, as_json: bool) -> int:
    """List the newest ``count`` letters."""
    check_lane(client, model, lane)
    total = client.xlen(keys.dead_letters(model, lane))
    found = client.xrevrange(keys.dead_letters(model, lane), count=count)
    letters, now = [_letter(*one) for one in found], inspection.now_ms(client)
    if as_json:
        print_json({"model": model, "lane": lane, "total": total, "letters": [_record(one, now) for one in letters]})
        return 0
    if letters:
        rows = [
            (one.entry, f"{(now - one.age_ms) / 1000:.0f} s ago", one.reason, str(one.crashes), one.request_id or "-",
             f"{len(one.message)} bytes")
            for one in letters
        ]  # fmt: skip
        print_table(("ENTRY", "GIVEN UP", "REASON", "CRASHES", "REQUEST", "MESSAGE"), rows)
    click.echo(f"headrace: {total} dead letters of {model} in lane {lane}, {len(letters)} shown.")
    return 0


def show_one(client: Any, model: str, lane: str, entry: str, as_json: bool) -> int:
    """Show one letter and what its message says; payloads are shown by their size only."""
    check_lane(client, model, lane)
    letter = _one(client, model, lane, entry)
    record = {**_record(letter, inspection.now_ms(client)), "request": _described(letter.message)}
    if as_json:
        print_json(record)
    else:
        print_table(("MEMBER", "VALUE"), [(name, str(value)) for name, value in _flat(record)])
    return 0


def requeue(client: Any, model: str, lane: str, entries: Sequence[str], every: bool, yes: bool, as_json: bool) -> int:
    """Put letters back into their lane, with a fresh deadline; an older reply and mark of the same id are forgotten."""
    check_lane(client, model, lane)
    chosen = _chosen(client, model, lane, entries, every)
    confirm(f"Put {len(chosen)} dead letters of {model} back into lane {lane}?", yes)
    done = 0
    for first in range(0, len(chosen), PAGE):
        done += _requeue(client, model, lane, chosen[first : first + PAGE])
    return _report("requeued", done, len(chosen), as_json)


def drop(client: Any, model: str, lane: str, entries: Sequence[str], every: bool, yes: bool, as_json: bool) -> int:
    """Delete letters for good."""
    check_lane(client, model, lane)
    chosen = _chosen(client, model, lane, entries, every)
    confirm(f"Drop {len(chosen)} dead letters of {model} in lane {lane} for good?", yes)
    place = keys.dead_letters(model, lane)
    done = sum(client.xdel(place, *chosen[first : first + PAGE]) for first in range(0, len(chosen), PAGE))
    return _report("dropped", done, len(chosen), as_json)


def _requeue(client: Any, model: str, lane: str, entries: Sequence[str]) -> int:
    """Put letters back and return how many were still there. Functions read no msgpack, so ids are found here."""
    place = keys.dead_letters(model, lane)
    letters = [
        (entry, _letter(raw, fields).request_id)
        for entry in entries
        for raw, fields in client.xrange(place, entry, entry)
    ]
    statuses = client.execute_command(*functions.requeue(keys.work(model, lane), letters))
    for status in statuses:
        if status.startswith(b"error"):
            end(f"Redis refused to put a letter back: {status.decode(errors='replace')}", EXIT_FAILED)
    return sum(status != b"gone" for status in statuses)


def _chosen(client: Any, model: str, lane: str, entries: Sequence[str], every: bool) -> list[str]:
    if every == bool(entries):
        end("Name the entries, or say --all.", EXIT_USAGE)
    place = keys.dead_letters(model, lane)
    if every:
        return [raw.decode() for raw, _ in client.xrange(place)]
    return [_one(client, model, lane, entry).entry for entry in dict.fromkeys(entries)]


def _one(client: Any, model: str, lane: str, entry: str) -> Letter:
    if not re.fullmatch(r"[0-9]{1,20}-[0-9]{1,20}", entry):
        end(f"An entry looks like 1700000000000-0, not {entry[:80]!r}.", EXIT_USAGE)
    found = client.xrange(keys.dead_letters(model, lane), entry, entry)
    if not found:
        end(f"There is no dead letter {entry} of {model} in lane {lane}.", EXIT_FAILED)
    return _letter(*found[0])


def _letter(entry: bytes, fields: Mapping[bytes, bytes]) -> Letter:
    message = fields.get(keys.MESSAGE_FIELD.encode(), b"")
    crashes = fields.get(b"crashes", b"0")
    request_id = fields.get(b"id", b"").decode(errors="replace") or _id_in(message)
    return Letter(
        entry.decode(),
        fields.get(b"reason", b"unknown").decode(errors="replace"),
        int(crashes) if crashes.isdigit() and len(crashes) <= MOST_DIGITS else 0,
        request_id if is_name(request_id) else "",
        message,
    )


def _id_in(message: bytes) -> str:
    try:
        return decode_request(message).id
    except WireError:
        return ""


def _described(message: bytes) -> dict[str, Any]:
    """What a message says, payloads by their size."""
    try:
        request = decode_request(message)
    except WireError as error:
        return {"unreadable": str(error), "bytes": len(message)}
    described: dict[str, Any] = {"id": request.id, "ttl_ms": request.ttl_ms, "params": dict(request.params)}
    if request.keep_ms is not None:
        described["keep_ms"] = request.keep_ms
    if request.at is not None:
        return {**described, "content_type": request.content_type, "at": request.at}
    if request.at_store is not None:
        return {**described, "content_type": request.content_type, "at_store": request.at_store}
    if request.inputs is None:
        return {**described, "content_type": request.content_type, "body_bytes": len(request.body or b"")}
    described["inputs"] = [
        {"name": one.name, "datatype": one.datatype, "shape": list(one.shape), "bytes": len(one.data)}
        for one in request.inputs
    ]
    return described


def _record(letter: Letter, now: int) -> dict[str, Any]:
    return {
        "entry": letter.entry,
        "age_s": (now - letter.age_ms) / 1000,
        "reason": letter.reason,
        "crashes": letter.crashes,
        "request_id": letter.request_id or None,
        "message_bytes": len(letter.message),
    }


def _flat(record: Mapping[str, Any], head: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in record.items():
        rows += _flat(value, f"{head}{name}.") if isinstance(value, dict) and value else [(f"{head}{name}", value)]
    return rows


def _report(what: str, done: int, asked: int, as_json: bool) -> int:
    if as_json:
        print_json({what: done, "gone": asked - done})
    else:
        gone = f"; {asked - done} were gone already" if done < asked else ""
        click.echo(f"headrace: {done} dead letters were {what}{gone}.")
    return 0
