"""`headrace lane guard`: switches off the users of lanes that are flooded past what they may hold [I/O].

Only a direct producer can fill a lane past its limit: the front ends respect it. Only its rights can stop it in Redis,
and it takes memory that all lanes share. Its rights identify it: a user that may XADD to this lane and to
no other. The front ends' user may write to all lanes, so it is never one.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import click

from headrace.output import print_json
from headrace.redis import inspection
from shared import keys, limits
from shared.names import is_name
from shared.redis.client import RedisError, ServerError

from .census import Census, Holding

EXIT_QUIET = 0
EXIT_FLOODED = 1

MEBIBYTE = 1024 * 1024
_SAMPLES = 10_000
_KEYS_AT_ONCE = 10_000_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a lane may hold.

    Attributes:
        times: so many times its limit, in requests.
        memory_bytes: of Redis's memory: requests, stream of ends, replies and reply streams together.
    """

    times: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Flood:
    """A lane past its bounds, what is wrong with it, and the users that were switched off for it."""

    model: str
    lane: str
    depth: int
    limit: int | None
    memory_bytes: int
    what: str
    users: tuple[str, ...]


def run(client: Any, bounds: Bounds, interval_s: float, once: bool, as_json: bool) -> int:
    """Look at all lanes, again and again unless ``once``; 1 when a single look found a flood."""
    census = Census(client)
    if not once:
        watch(client, census, bounds, interval_s, as_json)
    census.look(_KEYS_AT_ONCE)
    found = list(look(client, census, bounds))
    census.close()
    if as_json:
        print_json({"floods": [asdict(one) for one in found]})
    else:
        click.echo("\n".join(map(_sentence, found)) or "headrace: no lane is past its limit.")
    return EXIT_FLOODED if found else EXIT_QUIET


def watch(client: Any, census: Census, bounds: Bounds, interval_s: float, as_json: bool) -> NoReturn:
    """Look again and again. Once it has worked a Redis that is away is waited for, whatever the reason.

    Raises:
        shared.redis.RedisError: the first look failed.
    """
    told = _look_and_tell(client, census, bounds, set(), as_json)
    is_away = False
    while True:
        time.sleep(interval_s)
        try:
            told = _look_and_tell(client, census, bounds, told, as_json)
        except RedisError as error:
            if not is_away:
                click.echo(f"headrace: Redis cannot be watched ({error}); trying on.", err=True)
            is_away = True
        else:
            if is_away:
                click.echo("headrace: Redis is watched again.", err=True)
            is_away = False


def _look_and_tell(
    client: Any, census: Census, bounds: Bounds, told: set[tuple[str, str]], as_json: bool
) -> set[tuple[str, str]]:
    """Look, and tell of each flood at once; where nobody can be switched off, only when it is new.

    Returns:
        The lanes that are flooded.
    """
    found: set[tuple[str, str]] = set()
    census.look()
    for flood in look(client, census, bounds):
        found.add((flood.model, flood.lane))
        if flood.users or (flood.model, flood.lane) not in told:
            click.echo(json.dumps(asdict(flood)) if as_json else _sentence(flood))
    return found


def look(client: Any, census: Census, bounds: Bounds) -> Iterator[Flood]:
    """Switch off flooding users.

    Raises:
        shared.redis.RedisError: Redis does not answer, or this user is not the administrator.
    """
    for raw in client.zrange(keys.MODELS, 0, -1):
        model = raw.decode(errors="replace")
        if not is_name(model):
            continue
        for lane, (limit, _) in inspection.lane_settings(client, model).items():
            depth = _length(client, keys.work(model, lane))
            ends_bytes, holding = _bytes(client, keys.terminations(model, lane)), census.of(model, lane)
            memory_bytes = ends_bytes + _bytes(client, keys.work(model, lane)) + holding.memory_bytes
            what = _wrong(depth, limit, ends_bytes, memory_bytes, bounds, holding)
            if what:
                yield Flood(model, lane, depth, limit, memory_bytes, what, _switched_off(client, model, lane))
    census.let_expire()


def _wrong(depth: int, limit: int | None, ends_bytes: int, memory_bytes: int, bounds: Bounds, holding: Holding) -> str:
    """Say what is wrong with a lane that holds so much, nothing when it is within its bounds."""
    if limit is not None and depth > bounds.times * limit:
        return f"holds {depth} requests, its limit is {limit}"
    if ends_bytes > limits.ENDS_BYTES:
        return f"tells of cancelled requests in {_mib(ends_bytes)}, where {_mib(limits.ENDS_BYTES)} are plenty"
    if memory_bytes > bounds.memory_bytes:
        what = f"takes {_mib(memory_bytes)} of memory, and may take {_mib(bounds.memory_bytes)}"
        held = f"{holding.replies} replies and {holding.reply_streams} reply streams"
        return f"{what} ({held} take {_mib(holding.memory_bytes)} of it)" if holding.memory_bytes else what
    if holding.elsewhere:
        found = ", ".join(f"{count} in database {number}" for number, count in sorted(holding.elsewhere.items()))
        return f"has keys where nobody looks: {found}"
    if holding.endless:
        return f"has {len(holding.endless)} keys that never expire, such as {holding.endless[0]}; they get an hour"
    return ""


def _switched_off(client: Any, model: str, lane: str) -> tuple[str, ...]:
    """Switch off the lane's producers, and return their names."""
    users = producers(client, model, lane)
    for user in users:
        _switch_off(client, user)
    return tuple(users)


def producers(client: Any, model: str, lane: str) -> list[str]:
    """Return the users that are on and may add to this lane and to no other."""
    elsewhere = keys.work(model, f"no-{secrets.token_hex(8)}")
    return [
        user
        for user in (raw.decode(errors="replace") for raw in client.execute_command("ACL", "USERS"))
        if _may_add(client, user, keys.work(model, lane))
        and not _may_add(client, user, elsewhere)
        and "on" in client.acl_getuser(user)["flags"]
    ]


def _may_add(client: Any, user: str, work: str) -> bool:
    return bool(client.execute_command("ACL", "DRYRUN", user, "XADD", work, "*", "m", "x") == b"OK")


def _switch_off(client: Any, user: str) -> None:
    client.execute_command("ACL", "SETUSER", user, "off")
    # A user that is switched off cannot log in, but open connections stay.
    client.execute_command("CLIENT", "KILL", "USER", user)


def _length(client: Any, work: str) -> int:
    try:
        return int(client.xlen(work))
    except ServerError:
        return 0


def _bytes(client: Any, stream: str) -> int:
    """Return the memory of a stream, exactly unless it is so long that counting would hold up the server."""
    return int(client.memory_usage(stream, samples=_SAMPLES) or 0)


def _mib(count_bytes: int) -> str:
    return f"{count_bytes / MEBIBYTE:,.0f} MiB"


def _sentence(flood: Flood) -> str:
    where = f"headrace: lane {flood.lane} of {flood.model} {flood.what}"
    if not flood.users:
        return f"{where}; no user that is on has rights for this lane alone, so nobody was switched off."
    back = " ".join(f"`ACL SETUSER {user} on`" for user in flood.users)
    return f"{where}; switched off {', '.join(flood.users)} ({back} undoes it)."
