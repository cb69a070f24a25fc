"""Redis ACL rules for each role: what it needs, and nothing else. Pure.

A function runs with its caller's rights, so a role needs what is inside the functions it calls, which a test holds to
``shared/redis/lua``. Rules bind commands to the keys they are for. Keys are those of ``shared/keys.py``; names of
models and lanes cannot hold what would widen a pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from shared import keys
from shared.names import check_name

ANY_MODEL: Final = "*"

_CONNECTION: Final = "ping hello auth client|setname client|id time"
"""Without ECHO and SELECT: what is sent does not come back, and there is one database, unless another is named."""

_SPARED: Final = "client|no-evict"
"""Front ends and consumers are not closed for what others leave unread."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Commands on keys; ``{m}`` in a key stands for the model, ``%R~`` in front of it for reading only."""

    commands: str
    keys: str = ""

    def text(self, model: str) -> str:
        """Return them as ACLs write them."""
        patterns = [key if key[0] in "%~" else f"~{key}" for key in self.keys.replace("{m}", f"{{{model}}}").split()]
        return " ".join([*patterns, *(f"+{command}" for command in self.commands.split())])


_ROLES: Final[Mapping[str, tuple[Rights, ...]]] = {
    # The first of each is the user's own, the others are selectors, each for itself.
    "front_end": (
        Rights(f"{_CONNECTION} {_SPARED} info"),
        Rights("fcall memory|usage xack xadd xdel xinfo|groups xinfo|stream xlen xpending xrange", "hr:{m}:q:*"),
        Rights("exists lindex unlink", "hr:{m}:r:*"),
        Rights("zcard zincrby zmscore zrange zrangebyscore zrem zscore unlink", "hr:{m}:b:* hr:{m}:jb:*"),
        Rights("xtrim", "hr:{m}:rs:*"),
        Rights("xread xrange unlink", "hr:{m}:g:*"),
        Rights("xread", "%R~hr:{m}:rs:* %R~hr:{m}:x:*"),
        Rights("memory|usage pexpire xadd", "hr:{m}:x:*"),
        Rights("get set unlink", "hr:{m}:d:*"),
        Rights("get hget", "%R~hr:{m}:bytes %R~hr:{m}:kept %R~hr:{m}:tokens"),
        Rights("exists hgetall hmget hset pexpire", "hr:{m}:j:*"),
        Rights("pexpire xadd xread xrevrange", "hr:{m}:je:*"),
        Rights("pexpire zadd zcard zincrby zrangebyscore zrem zscore", "hr:{m}:jo:*"),
        Rights("lindex lpop lset pexpire rpop rpush xadd zadd zcard zrange zrem zscore", "hr:{m}:hooks:*"),
        Rights("xlen", "hr:{m}:dlq:*"),
        Rights("memory|usage pexpire xadd xlen xrevrange xtrim", "hr:{m}:log"),
        Rights("pexpire xadd xrange xrevrange xtrim", "hr:{m}:history"),
        Rights("pexpire set", "hr:{m}:history:turn"),
        Rights("zrevrange", "%R~hr:models"),
        Rights(
            "exists hget hgetall hincrby hmget hset lrange pexpire rpush unlink zadd zcard zrangebyscore zrem"
            " zrevrange",
            "hr:{m}:bulk hr:{m}:bl:* hr:{m}:bk:* hr:{m}:bp:*",
        ),
        Rights("pexpire zadd", "hr:{m}:hurry"),
        Rights(
            "hget hmget hgetall zcount zrange",
            "%R~hr:{m}:card %R~hr:{m}:lanes %R~hr:{m}:workers %R~hr:{m}:w:* %R~hr:{m}:wish %R~hr:{m}:failures"
            " %R~hr:{m}:starts",
        ),
    ),
    "consumer": (
        Rights(f"{_CONNECTION} {_SPARED} info"),
        Rights("zadd", "hr:models"),
        Rights(
            "del exists fcall get hdel hget hgetall hmget hset lindex memory|usage pexpire rpop rpush set time"
            " unlink xack xadd xclaim xdel xgroup|create xgroup|delconsumer xinfo|consumers xinfo|groups"
            " xinfo|stream xlen xpending xrange xread xreadgroup xrevrange xtrim zadd zcard zincrby zmscore zrange"
            " zrangebyscore zrem zremrangebyscore zscore",
            "hr:{m}:*",
        ),
    ),
    "operator": (
        Rights(f"{_CONNECTION} info multi exec"),
        Rights(
            "fcall memory|usage xadd xgroup|create xinfo|consumers xinfo|groups xinfo|stream xlen xpending",
            "hr:{m}:q:*",
        ),
        Rights("unlink xadd xdel xgroup|create xlen xrange", f"hr:{{m}}:q:* {keys.repair('m', '*')}"),
        Rights("exists xdel xlen xrange xrevrange", "hr:{m}:dlq:*"),
        Rights("unlink", "hr:{m}:q:* hr:{m}:dlq:* hr:{m}:x:*"),  # all in one command
        Rights("unlink", "hr:{m}:r:* hr:{m}:d:*"),
        Rights("unlink", "hr:{m}:g:*"),
        Rights("exists", "hr:{m}:r:*"),
        Rights("get hget", "%R~hr:{m}:bytes %R~hr:{m}:kept %R~hr:{m}:tokens"),
        Rights("zcard zincrby zmscore zrange zrangebyscore zrem zscore unlink", "hr:{m}:b:*"),
        Rights("zscore", "hr:{m}:jb:*"),
        Rights("exists pexpire rpop rpush xdel xlen xrange xrevrange zadd zcard zrange zscore", "hr:{m}:hooks:*"),
        Rights("zrange zrevrange zscore", "%R~hr:models %R~hr:{m}:workers"),
        Rights(
            "hget hgetall hmget",
            "%R~hr:{m}:card %R~hr:{m}:lanes %R~hr:{m}:w:* %R~hr:{m}:wish %R~hr:{m}:failures %R~hr:{m}:starts",
        ),
        Rights("hdel hset", "hr:{m}:wish hr:{m}:lanes"),
        Rights("hdel hmget hset pexpire", "hr:{m}:j:*"),
        Rights("pexpire zadd zcard zincrby zscore", "hr:{m}:jo:*"),
    ),
    "health": (Rights("ping client|setname"),),
}
_LOOK: Final = (Rights("xlen xrange xrevrange", "%R~hr:{m}:dlq:*"),)
_ACT: Final = (
    Rights("xdel xlen xrange xrevrange", "hr:{m}:dlq:*"),
    Rights("unlink", "hr:{m}:r:* hr:{m}:d:*"),  # both in one command
    Rights("hdel", "hr:{m}:j:*"),
    Rights("hdel hset", "hr:{m}:lanes"),
)
CONSOLE: Final[Mapping[str, tuple[Rights, ...]]] = {"off": (), "read": _LOOK, "operate": _ACT}
"""What front ends may do besides, by what their console may: show dead letters; requeue and drop them, pause lanes."""

ADMINISTRATOR: Final = "administrator"
ROLES: Final = (ADMINISTRATOR, *_ROLES)


def rule(role: str, password: str, model: str = ANY_MODEL, database: int = 0, console: str = "operate") -> str:
    """Return the line of one role's user, as a file of ACL rules takes it.

    Args:
        password: as ACLs write it: ``>word``, ``#sha256`` or ``resetpass``.
        model: the one model whose keys it may use, or any.
        database: where the keys are; a connection begins in 0 and may choose this one.
        console: what the console of front ends may do: one of :data:`CONSOLE`.

    Raises:
        ValueError: the model is no name.
    """
    if model != ANY_MODEL:
        check_name(model, "The model")
    head = f"user {role} reset on {password}"
    if role == ADMINISTRATOR:
        return f"{head} ~* &* +@all"
    more = CONSOLE[console] if role == "front_end" else ()
    own, *selectors = (rights.text(model) for rights in (*_ROLES[role], *more))
    return _line(f"{head} -@all", own, selectors, database)


def _line(head: str, own: str, selectors: Iterable[str], database: int) -> str:
    """Return a user's line; with one number behind SELECT it may choose that database and no other."""
    chooses = [f"+select|{database}"] if database else []
    return " ".join([head, own, *chooses, *(f"({selector})" for selector in selectors)])


def producer_rule(name: str, model: str, lane: str, password: str, database: int = 0) -> str:
    """Return the line of a direct producer's user: it adds to its lane, and waits for its replies.

    A user that may XADD to a stream can still empty it with MAXLEN, which rules cannot forbid: give each its own lane.
    No command that it has writes to a second key, and none makes a key but its lane's two streams.

    Raises:
        ValueError: a name is none, or is that of a role.
    """
    for text, what in ((name, "The user"), (model, "The model"), (lane, "The lane")):
        check_name(text, what)
    if name in (*ROLES, "default", "server"):
        raise ValueError(f"A direct producer cannot be called {name}: that is a role's name.")
    rights = (
        Rights(_CONNECTION),
        Rights("xadd", f"%W~hr:{{m}}:q:{lane} %W~hr:{{m}}:x:{lane}"),
        Rights("blpop lindex unlink", f"hr:{{m}}:r:{lane}:*"),
        Rights("xread", f"%R~hr:{{m}}:rs:{lane}:* %R~hr:{{m}}:x:{lane} %R~hr:{{m}}:g:{lane}:*"),
    )
    own, *selectors = (one.text(model) for one in rights)
    return _line(f"user {name} reset on {password} -@all", own, selectors, database)
