"""The limits that front end, consumers and the Redis functions keep alike. Pure; ``docs/protocol.md`` names them."""

from __future__ import annotations

from typing import Final

LONGEST_MS: Final = 7 * 86_400_000
"""The longest ``ttl_ms`` and ``keep_ms``: how long a request may wait to begin, and how long its reply may be kept."""

LONGEST_TIMEOUT_MS: Final = 3_600_000
"""The longest time that a client may wait for an answer on its connection."""

MAX_VALUES: Final = 4096
"""Values in a request, those inside others and keys included. 64 tensors of 16 dimensions and 64 options take 1,900."""

HINT_LIMIT_BYTES: Final = 16 * 1024
"""Replies of this size and more are not copied into the reply stream; the hint carries the id only."""

LUA_LIMIT_BYTES: Final = 16 * 1024
"""Messages of this size and more are added by a plain XADD, because passing them through Lua copies them."""

REPLY_STREAM_CAP: Final = 10_000
"""Most entries of a reply stream, approximately."""

FRAME_STREAM_CAP: Final = 1_000
"""The same where frames are added, many in one entry: whoever misses one reads the record instead."""

ENDS_CAP: Final = 10_000
"""Most entries of a stream of ends, approximately."""

ENDS_BYTES: Final = 4 * 1024 * 1024
"""A stream of ends that takes more memory was not filled with ends: so many take a third of it."""

ENDS_MS: Final = 3_600_000
"""How long a stream of ends stays after the last: as long as a client may wait at most."""

DEAD_LETTERS_CAP: Final = 10_000
"""Most dead letters of a lane; the oldest are dropped."""

DEAD_LETTERS_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of messages in the dead letters of a lane, unless a single one is larger."""

HOOKS_CAP: Final = 10_000
"""Requests and batches of a lane whose webhooks may wait; beyond it, no further one with a webhook is admitted."""

HOOKS_MS: Final = 8 * 86_400_000
"""How long webhooks wait that nobody delivers, since no front end runs."""

HOOKS_DEAD_CAP: Final = 1_000
"""Most webhooks of a lane that were given up; the oldest are dropped."""

HOOKS_DEAD_MS: Final = 30 * 86_400_000
"""How long webhooks stay that were given up, from the last one on."""

BULK_MS: Final = 16 * 86_400_000
"""How long a batch's keys stay after the last change: longer than it may run, and its results be kept, together."""
