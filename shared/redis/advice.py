"""What an error of Redis means for Headrace, and what to do about it, in one sentence. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from shared.modules import COMMAND

_LOADS = f"it loads Headrace's functions: run `{COMMAND} functions load` as the administrator, once for each version"

NEEDS: Final[Mapping[str, str]] = {
    "function|load": _LOADS,
    "function|list": _LOADS,  # `doctor` calls the functions instead
    "function": (
        "Headrace's functions are needed for everything: use Redis 7, Valkey 8, or a managed server that has functions"
    ),
    "fcall": "Headrace's functions are needed for everything: give this user the rules of `headrace acl print`",
    "config": "only `doctor` needs it: your provider's console shows the settings that docs/redis.md lists",
    "info": (
        "it tells of memory that is nearly full, of a replica and of cluster mode, which are then noticed by refused "
        "commands only"
    ),
    "acl": "`acl load` and `lane guard` need it: without it make users in your provider's console",
    "client|kill": "`lane guard` needs it to end the connections of a flooding user",
    "client|no-evict": "front ends and consumers may be closed for what other clients leave unread",
    "memory|usage": "it tells how much a lane holds: without it that is not bounded",
    "scan": "`lane guard` needs it to count replies",
    "select": "take database 0, or have the rules made with `headrace acl write --database`",
    "time": "Redis's clock is needed for every deadline: give this user the rules of `headrace acl print`",
}
"""For whom a command is, and what to do or what is lost without it."""

CLUSTER: Final = (
    "the server runs in cluster mode, which Headrace does not: its keys lie in several slots and its connections "
    "follow no redirections; use a server without it (a single primary, with Sentinels if you like)"
)
REPLICA = "the server is a replica, which takes no requests; name the primary, or its Sentinels"
_PROTECTED = (
    "the server is in protected mode and lets in its own machine only; give its users passwords (docs/security.md), or "
    "bind it to addresses that you trust"
)
_OTHERS = "give this user the rules of `headrace acl print`, or ask as one that may"
_FORBIDDEN = re.compile(r"no permissions to run the '([\w|-]{1,64})' command")
_UNKNOWN = re.compile(r"(?i)unknown (?:command|subcommand) ['`]?([\w|-]{1,64})")
_MOVED = re.compile(r"(?:MOVED |ASK )?\d{1,5} \S+:\d+\Z")
_OF_CLUSTERS = (
    "MOVED ",
    "ASK ",
    "CROSSSLOT",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "Keys in request don't hash",
    "The cluster is down",
)


def is_cluster(text: str) -> bool:
    """Say whether an error answer is one that only servers in cluster mode give."""
    return text.startswith(_OF_CLUSTERS) or "Hash slot not served" in text or _MOVED.match(text) is not None


def told(error: BaseException) -> str:
    """Return what an error says, without a full stop, and what it means where that is known."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if is_cluster(text):
        return f"{CLUSTER} ({text})"
    if text.startswith(("DENIED", "-DENIED")) or "running in protected mode" in text:
        return _PROTECTED
    if text.startswith("READONLY") or "read only replica" in text:
        return f"{text}: {REPLICA}"
    if forbidden := _FORBIDDEN.search(text):
        return f"{text}: {_need(forbidden[1])}"
    if unknown := _UNKNOWN.search(text):
        return f"the server has no command {unknown[1].upper()}: {_need(unknown[1])}"
    return text


def _need(command: str) -> str:
    name = command.lower()
    return NEEDS.get(name) or NEEDS.get(name.partition("|")[0]) or _OTHERS


_NO_TLS = ("wrong version number", "wrong_version_number", "record layer failure", "timeout connecting")
_TLS = ("connection closed", "connection reset", "protocol error", "timeout reading")


def told_of_door(error: BaseException, *, is_tls: bool) -> str:
    """As :func:`told`, of a server that took the connection and then did not speak as the address says."""
    text = told(error)
    lower = text.lower()
    if is_tls and any(sign in lower for sign in _NO_TLS):
        return f"{text}; perhaps it speaks no TLS there: the address begins with redis:// then"
    if not is_tls and any(sign in lower for sign in _TLS):
        return f"{text}; perhaps it speaks TLS there: the address begins with rediss:// then"
    return text
