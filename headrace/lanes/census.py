"""What lanes hold besides their requests: replies, reply streams, and keys in places that nothing else checks [I/O].

Nothing in Redis says how much that is, so all keys are gone through, a bounded number at each look: a look costs the
server a few milliseconds, whatever is in it. What is told of a lane is what the latest whole round has found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared import keys
from shared.limits import ENDS_MS
from shared.names import NAME_PATTERN
from shared.redis.client import ServerError, SyncLink

MOST_KEYS = 5_000
"""Keys that are gone through at one look."""

_PAGE = 500
_NEVER = -1
_NAME = f"({NAME_PATTERN})"
_KEY = re.compile(rf"hr:\{{{_NAME}\}}:(?:(r|rs|d):{_NAME}:{NAME_PATTERN}|(q|x|dlq):{_NAME})\Z".encode())


@dataclass(slots=True)
class Holding:
    """What one lane holds besides its requests.

    Attributes:
        replies, reply_streams: how many there are.
        memory_bytes: of both together, and of the keys elsewhere.
        endless: names of keys that never expire, though every key of their kind is given a time.
        elsewhere: keys of this lane in other databases, by the number of the database.
    """

    replies: int = 0
    reply_streams: int = 0
    memory_bytes: int = 0
    endless: list[str] = field(default_factory=list)
    elsewhere: dict[int, int] = field(default_factory=dict)


Holdings = dict[tuple[str, str], Holding]


class Census:
    """Goes round and round through all keys of a server.

    Args:
        client: of the database that the stack uses.
    """

    def __init__(self, client: Any) -> None:
        self._client, self._link = client, SyncLink(client)
        self._own = int(client.connection_pool.connection_kwargs.get("db") or 0)
        self._left: list[int] = []
        self._cursor: bytes | None = None
        self._counting: Holdings = {}
        self.found: Holdings = {}

    def look(self, most_keys: int = MOST_KEYS) -> None:
        """Go on through the keys; at the end of a round begin the next one only at the next look.

        Raises:
            shared.redis.RedisError: the server does not answer, or this user may not look.
        """
        if not self._left:
            self._left, self._counting = self._databases(), {}
        seen = 0
        while self._left and seen < most_keys:
            seen += self._page(self._left[0])
            if self._cursor is None:
                self._left.pop(0)
        if not self._left:
            self.found = self._counting

    def of(self, model: str, lane: str) -> Holding:
        """Return what a lane holds."""
        return self.found.get((model, lane), Holding())

    def let_expire(self) -> None:
        """Give the keys of the latest round that would never expire an hour, so that their memory comes back."""
        for holding in self.found.values():
            if holding.endless:
                self._ask(self._own, [("PEXPIRE", name, ENDS_MS, "NX") for name in holding.endless])
            holding.endless = []

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _databases(self) -> list[int]:
        """Return the databases with keys that may be of this stack's lanes: with a list of models it is another's."""
        numbers = [int(name.removeprefix("db")) for name in self._client.info("keyspace")]
        others = [number for number in numbers if number != self._own]
        return [self._own, *(number for number in others if not self._ask(number, [("EXISTS", keys.MODELS)])[0])]

    def _ask(self, database: int, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands to one database: in one piece with the command that chooses it, on one connection.

        A key may vanish meanwhile, so the answer to a single one may be an error.
        """
        chooses = [] if database == self._own else [("SELECT", database)]
        back = [("SELECT", self._own)] if chooses else []
        self._link.send(*chooses, *commands, *back)
        answers = [self._answer() for _ in range(len(chooses) + len(commands) + len(back))]
        if chooses and isinstance(answers[0], ServerError):
            raise answers[0]
        return answers[len(chooses) : len(chooses) + len(commands)]

    def _answer(self) -> Any:
        try:
            return self._link.receive()
        except ServerError as error:
            return error

    def _page(self, database: int) -> int:
        scanned = self._ask(database, [("SCAN", self._cursor or b"0", "COUNT", _PAGE)])[0]
        if isinstance(scanned, ServerError):
            raise scanned
        cursor, names = scanned
        self._cursor = None if cursor == b"0" else cursor
        named = [(name, match) for name in names if (match := _KEY.match(name))]
        if database == self._own:
            named = [(name, match) for name, match in named if match[2]]  # the others are checked one by one
        if named:
            self._count(database, named)
        return max(_PAGE, len(names))

    def _count(self, database: int, named: Iterable[tuple[bytes, re.Match[bytes]]]) -> None:
        pairs = list(named)
        asked = [command for name, _ in pairs for command in (("PTTL", name), ("MEMORY", "USAGE", name))]
        answers = self._ask(database, asked)
        for (name, match), left_ms, size_bytes in zip(pairs, answers[::2], answers[1::2], strict=True):
            place = match[1].decode(), (match[3] or match[5]).decode()
            holding = self._counting.setdefault(place, Holding())
            holding.memory_bytes += size_bytes if isinstance(size_bytes, int) else 0
            if database != self._own:
                holding.elsewhere[database] = holding.elsewhere.get(database, 0) + 1
                continue
            holding.replies += match[2] == b"r"
            holding.reply_streams += match[2] == b"rs"
            if left_ms == _NEVER:
                holding.endless.append(name.decode())
