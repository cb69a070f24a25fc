"""`headrace webhooks`: look at webhooks that wait or were given up, deliver these again, or drop them [I/O]."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import click

from headrace.exit_codes import EXIT_FAILED, EXIT_USAGE
from headrace.output import confirm, print_json, print_table
from headrace.redis import inspection
from headrace.redis.access import end
from shared import keys
from shared.names import is_name
from shared.redis import functions

PAGE = 500


@dataclass(frozen=True, slots=True)
class Letter:
    """A webhook that was given up.

    Attributes:
        entry: its id among them.
        webhook: its ``webhook-id``.
        event: its type.
        name: of the request or batch.
        url: where it should have gone.
        attempts: how many there were.
        reason: why the last one failed.
    """

    entry: str
    webhook: str
    event: str
    name: str
    url: str
    attempts: int
    reason: str

    @property
    def host(self) -> str:
        """Scheme and host: the rest of a webhook's address often is a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def at_ms(self) -> int:
        """POSIX time in ms, on Redis's clock, when it was given up."""
        return int(self.entry.partition("-")[0])


def show_list(client: Any, model: str, lane: str, count: int, as_json: bool) -> int:
    """Say how many wait, and list the newest ``count`` that were given up."""
    _check(client, model, lane)
    now_ms = inspection.now_ms(client)
    waiting = client.zcard(keys.webhooks_pending(model, lane))
    oldest = client.zrange(keys.webhooks_pending(model, lane), 0, 0, withscores=True)
    oldest_s = max(0.0, (now_ms - oldest[0][1]) / 1000) if oldest else 0.0
    place = keys.dead_webhooks(model, lane)
    total, letters = client.xlen(place), [_letter(*one) for one in client.xrevrange(place, count=count)]
    if as_json:
        known = [_record(one, now_ms) for one in letters]
        waits = {"model": model, "lane": lane, "pending": waiting, "oldest_s": oldest_s}
        print_json({**waits, "given_up": total, "webhooks": known})
        return 0
    if letters:
        rows = [
            (one.entry, f"{(now_ms - one.at_ms) / 1000:.0f} s ago", one.event, one.name, one.host, str(one.attempts),
             one.reason)
            for one in letters
        ]  # fmt: skip
        print_table(("ENTRY", "GIVEN UP", "EVENT", "ID", "RECEIVER", "ATTEMPTS", "REASON"), rows)
    since = f", the oldest for {oldest_s:.0f} s" if waiting else ""
    sentence = (
        f"headrace: of model {model} in lane {lane}, {waiting} requests and batches have webhooks to deliver{since};"
    )
    click.echo(f"{sentence} {total} webhooks were given up, {len(letters)} shown.")
    return 0


def retry(client: Any, model: str, lane: str, entries: Sequence[str], every: bool, yes: bool, as_json: bool) -> int:
    """Have webhooks delivered again."""
    chosen = _chosen(client, model, lane, entries, every)
    confirm(f"Deliver {len(chosen)} webhooks of {model} in lane {lane} again?", yes)
    done = 0
    for first in range(0, len(chosen), PAGE):
        command = functions.webhook_retry(keys.work(model, lane), chosen[first : first + PAGE])
        for status in client.execute_command(*command):
            if status not in (1, b"gone"):
                end(f"Redis refused to deliver a webhook again: {status.decode(errors='replace')}", EXIT_FAILED)
            done += status == 1
    return _report("retried", "are delivered again", done, len(chosen), as_json)


def drop(client: Any, model: str, lane: str, entries: Sequence[str], every: bool, yes: bool, as_json: bool) -> int:
    """Delete webhooks for good."""
    chosen = _chosen(client, model, lane, entries, every)
    confirm(f"Drop {len(chosen)} webhooks of {model} in lane {lane} for good?", yes)
    place = keys.dead_webhooks(model, lane)
    done = sum(client.xdel(place, *chosen[first : first + PAGE]) for first in range(0, len(chosen), PAGE))
    return _report("dropped", "were dropped", done, len(chosen), as_json)


def _check(client: Any, model: str, lane: str) -> None:
    if not is_name(model) or not is_name(lane):
        end("Model and lane must be 1 to 64 letters, digits, '_' or '-'.", EXIT_USAGE)
    if client.zscore(keys.MODELS, model) is None and not client.exists(keys.dead_webhooks(model, lane)):
        end(f"No consumer has ever served a model {model!r} here.", EXIT_USAGE)


def _chosen(client: Any, model: str, lane: str, entries: Sequence[str], every: bool) -> list[str]:
    _check(client, model, lane)
    if every == bool(entries):
        end("Name the entries, or say --all.", EXIT_USAGE)
    place = keys.dead_webhooks(model, lane)
    if every:
        return [raw.decode() for raw, _ in client.xrange(place)]
    for entry in entries:
        if not re.fullmatch(r"[0-9]{1,20}-[0-9]{1,20}", entry):
            end(f"An entry looks like 1700000000000-0, not {entry[:80]!r}.", EXIT_USAGE)
        if not client.xrange(place, entry, entry):
            end(f"There is no webhook {entry} of {model} in lane {lane} that was given up.", EXIT_FAILED)
    return list(dict.fromkeys(entries))


def _letter(entry: bytes, fields: Mapping[bytes, bytes]) -> Letter:
    try:
        event = json.loads(fields.get(b"event", b"{}"))
        hook = json.loads(event.get("hook") or "{}")
    except ValueError:
        event, hook = {}, {}
    attempts = event.get("attempts")
    return Letter(
        entry.decode(),
        webhook=str(event.get("id") or "-"),
        event=str(event.get("type") or "-"),
        name=str(event.get("name") or "-"),
        url=str(hook.get("url") or "-"),
        attempts=attempts if isinstance(attempts, int) else 0,
        reason=str(event.get("error") or "unknown"),
    )


def _record(letter: Letter, now_ms: int) -> dict[str, Any]:
    return {
        "entry": letter.entry,
        "age_s": (now_ms - letter.at_ms) / 1000,
        "webhook_id": letter.webhook,
        "event": letter.event,
        "id": letter.name,
        "url": letter.url,
        "attempts": letter.attempts,
        "reason": letter.reason,
    }


def _report(name: str, what: str, done: int, asked: int, as_json: bool) -> int:
    if as_json:
        print_json({name: done, "gone": asked - done})
    else:
        gone = f"; {asked - done} were gone already" if done < asked else ""
        click.echo(f"headrace: {done} webhooks {what}{gone}.")
    return 0
