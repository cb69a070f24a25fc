"""`headrace lane guard`: switches off the users of lanes that are flooded past their limit [I/O].

Only a direct producer can fill a lane past its limit: the front ends respect it. Nothing in Redis stops one but its
own rights, and the memory it takes is everybody's. Who it is, its rights say: a user that may XADD to this lane and to
no other. The front ends' user may write to all, and so is never one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from shared import keys
from shared.names import is_name
from shared.redis import ServerError

from . import inspection
from .output import print_json

EXIT_QUIET = 0
EXIT_FLOODED = 1


@dataclass(frozen=True, slots=True)
class Flood:
    """A lane past its limit, and the users that were switched off for it."""

    model: str
    lane: str
    depth: int
    limit: int
    users: tuple[str, ...]


def run(client: Any, times: float, interval_s: float, once: bool, as_json: bool) -> int:
    """Look at all lanes, again and again unless ``once``; 1 when a single look found a flood.

    Args:
        times: a lane is flooded when it holds so many times its limit.
    """
    while True:
        found = list(look(client, times))
        if once and as_json:
            print_json({"floods": [asdict(one) for one in found]})
        else:
            for one in found:
                click.echo(_sentence(one))
        if once:
            if not found and not as_json:
                click.echo("headrace: no lane is past its limit.")
            return EXIT_FLOODED if found else EXIT_QUIET
        time.sleep(interval_s)


def look(client: Any, times: float) -> Iterator[Flood]:
    """Switch off who floods.

    Raises:
        shared.redis.ClientError: Redis does not answer, or this user is not the administrator.
    """
    for raw in client.zrange(keys.MODELS, 0, -1):
        model = raw.decode(errors="replace")
        if not is_name(model):
            continue
        for lane, (limit, _) in inspection.lane_settings(client, model).items():
            depth = _length(client, keys.work(model, lane))
            if limit is not None and depth > times * limit:
                users = producers(client, model, lane)
                for user in users:
                    _switch_off(client, user)
                yield Flood(model, lane, depth, limit, tuple(users))


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
    # Who is off cannot log in, but who is in stays in.
    client.execute_command("CLIENT", "KILL", "USER", user)


def _length(client: Any, work: str) -> int:
    try:
        return int(client.xlen(work))
    except ServerError:
        return 0


def _sentence(flood: Flood) -> str:
    where = f"headrace: lane {flood.lane} of {flood.model} holds {flood.depth} requests, its limit is {flood.limit}"
    if not flood.users:
        return f"{where}; no user that is on has rights for this lane alone, so nobody was switched off."
    back = " ".join(f"`ACL SETUSER {user} on`" for user in flood.users)
    return f"{where}; switched off {', '.join(flood.users)} ({back} undoes it)."
