"""Loading ``functions.lua`` into Redis, and the names of the functions in it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Protocol

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
LANES = "hr1_lanes"
REPAIR = "hr1_repair"
CANCEL = "hr1_cancel"
ASK = "hr1_ask"
ANSWERED = "hr1_answered"
BYTES = "hr1_bytes"

HINT_LIMIT_BYTES = 16 * 1024
"""Replies of this size and more are not copied into the reply stream; the hint carries the id only."""

LUA_LIMIT_BYTES = 16 * 1024
"""Messages of this size and more are added by a plain XADD, because passing them through Lua copies them."""

REPLY_STREAM_CAP = 10_000
"""Most entries of a reply stream, approximately."""

ENDS_CAP = 10_000
"""Most entries of a stream of ends, approximately."""

ENDS_BYTES = 4 * 1024 * 1024
"""A stream of ends that takes more memory was not filled with ends: so many take a third of it."""

ENDS_MS = 3_600_000
"""How long a stream of ends stays after the last: as long as a request may wait at most."""

DEAD_LETTERS_CAP = 10_000
"""Most dead letters of a lane; the oldest are dropped."""

DEAD_LETTERS_BYTES = 64 * 1024 * 1024
"""Most bytes of messages in the dead letters of a lane, unless a single one is larger."""


@cache
def source() -> str:
    """The text of the function library."""
    return Path(__file__).with_name("functions.lua").read_text(encoding="utf-8")


@cache
def names() -> tuple[str, ...]:
    """Return the names of the functions that the library registers."""
    return tuple(re.findall(r"(?:register_function\(|function_name = )'(\w+)'", source()))


class LoadsFunctions(Protocol):
    """What ``load`` needs of a client; synchronous redis clients have it."""

    def function_load(self, code: str, replace: bool | None = False) -> object:
        """Send FUNCTION LOAD."""


def load(client: LoadsFunctions) -> None:
    """Load the library, replacing an older copy of the same name."""
    client.function_load(source(), replace=True)


def is_missing(error: Exception) -> bool:
    """Say whether ``error`` is Redis's answer to a call of a function that is not loaded."""
    return "function not found" in str(error).lower()
