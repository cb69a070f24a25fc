"""Which entries ended without a consumer, read from Redis; for :class:`consumer.redis_stream.RedisStream`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared import functions, keys
from shared.redis import SyncLink

from .stream import Claim

MOST_NEWS = 1000
_ENTRY = b"entry"


class EndsReader:
    """Reads the lanes' streams of ends, each from where it was left.

    Args:
        link: the connection; it is waited on for at most ``block_ms``.
    """

    def __init__(self, link: SyncLink, model: str, block_ms: int) -> None:
        self._link, self._model, self._block_ms = link, model, block_ms
        self._read_up_to: dict[str, bytes] = {}

    def read(self, lanes: Sequence[str]) -> list[Claim]:
        """Wait for news of these lanes.

        Raises:
            ClientError: the server does not answer.
        """
        lane_of = {keys.ends(self._model, lane).encode(): lane for lane in lanes}
        cursors = [self._read_up_to.get(lane, b"0-0") for lane in lanes]
        wait = ("COUNT", MOST_NEWS, "BLOCK", self._block_ms)
        claims: list[Claim] = []
        for stream, news in self._link.call("XREAD", *wait, "STREAMS", *lane_of, *cursors) or ():
            # A direct producer writes there by itself, perhaps without bounds.
            self._link.call("XTRIM", stream, "MAXLEN", "~", functions.ENDS_CAP)
            self._link.call("PEXPIRE", stream, functions.ENDS_MS, "NX")
            lane = lane_of[stream]
            claims += [(lane, entry_id) for _, fields in news if (entry_id := _entry(fields)) is not None]
            self._read_up_to[lane] = news[-1][0]
        return claims


def _entry(fields: list[Any]) -> Any:
    return fields[fields.index(_ENTRY) + 1] if _ENTRY in fields[::2] else None
