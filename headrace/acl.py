"""Redis ACL rules for each role: what it needs, and nothing else. Pure.

A function runs with its caller's rights, so each role has the commands inside the functions it calls. Keys are those of
``shared/keys.py``; names of models and lanes cannot hold what would widen a pattern.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from shared.names import check_name

_CONNECTION: Final = "+ping +hello +auth +select +client|setinfo +client|setname +client|id +echo +time"

_FRONT_END_COMMANDS: Final = (
    "+fcall +info +exists +get +set +pexpire +hget +hmget +hgetall +zrange +zrevrange +zcount +zscore"
    " +xadd +xlen +xrange +xread +xtrim +xpending +lindex +unlink"
)
_FRONT_END_KEYS: Final = (
    "%R~hr:models %R~hr:{*}:card %R~hr:{*}:lanes %R~hr:{*}:workers %R~hr:{*}:w:*"
    " ~hr:{*}:q:* ~hr:{*}:r:* ~hr:{*}:rs:* ~hr:{*}:d:* ~hr:{*}:x:*"
)

_CONSUMER_COMMANDS: Final = (
    "+fcall +info +exists +get +set +del +unlink +pexpire +hset +hget +hmget +hgetall +hlen"
    " +zadd +zrem +zrange +zremrangebyscore +zscore +xadd +xack +xautoclaim +xclaim +xdel +xlen +xpending +xrange"
    " +xrevrange +xread +xreadgroup +xtrim +xgroup|create +xgroup|delconsumer +xinfo|consumers +xinfo|groups"
    " +xinfo|stream +rpush +rpop +lindex +rename"
)
_CONSUMER_KEYS: Final = "~hr:models ~hr:{*}:*"

_ROLES: Final[Mapping[str, tuple[str, str]]] = {
    "administrator": ("~* &*", "+@all"),
    "front_end": (_FRONT_END_KEYS, f"{_CONNECTION} {_FRONT_END_COMMANDS}"),
    "consumer": (_CONSUMER_KEYS, f"{_CONNECTION} {_CONSUMER_COMMANDS}"),
}
ROLES: Final = tuple(_ROLES)


def rule(role: str, password: str) -> str:
    """Return the line of one role's user, as a file of ACL rules and ``ACL SETUSER`` take it.

    Args:
        password: as ACLs write it: ``>word``, ``#sha256`` or ``nopass``.
    """
    keys, commands = _ROLES[role]
    base = "" if role == "administrator" else "-@all "
    return f"user {role} reset on {password} {keys} {base}{commands}"


def producer_rule(name: str, model: str, lane: str, password: str) -> str:
    """Return the line of a direct producer's user: it adds to its lane, and waits for its replies.

    Selectors bind each command to its own keys, so that it can neither write replies nor touch another lane. Whoever
    may XADD to a stream can still empty it with MAXLEN, which rules cannot forbid: give each a lane of its own.

    Raises:
        ValueError: a name is none.
    """
    for text, what in ((name, "The user"), (model, "The model"), (lane, "The lane")):
        check_name(text, what)
    head = f"hr:{{{model}}}"
    return (
        f"user {name} reset on {password} -@all {_CONNECTION}"
        f" (+xadd %W~{head}:q:{lane})"
        f" (+blmove +blpop +lindex +unlink ~{head}:r:{lane}:*)"
        f" (+xread %R~{head}:rs:{lane}:*)"
    )
