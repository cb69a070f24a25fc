"""How many large bodies a key, and all keys, may have in the store. Pure: it counts what a listing shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from shared.results.references import BODIES
from shared.results.store import Found
from shared.wire.outcomes import UPLOAD_LIMIT, RequestError

BEGUN: Final = "begun-"
"""Beginning of the name of the object that an upload begins with; the declared length in bytes follows."""

MOST_PER_KEY: Final = 64
MOST_IN_TOTAL: Final = 2048
RETRY_AFTER_S: Final = 30


class Use(NamedTuple):
    """How many bodies there are, and their bytes: as declared, or else as they are."""

    bodies: int
    size_bytes: int


def uses_of(objects: Iterable[Found]) -> dict[str, Use]:
    """Count the bodies of each owner.

    Args:
        objects: all below ``bodies``: ``bodies/LANE/OWNER/ID/NAME``.
    """
    declared: dict[tuple[str, str], int] = {}
    held: defaultdict[tuple[str, str], int] = defaultdict(int)
    for found in objects:
        parts = found.key.split("/")
        if len(parts) != 5 or parts[0] != BODIES:
            continue
        body = parts[2], parts[3]
        held[body] += found.size_bytes
        size = parts[4].removeprefix(BEGUN)
        if size != parts[4] and size.isdecimal():
            declared[body] = int(size)
    uses: dict[str, Use] = {}
    for (owner, body_id), size_bytes in held.items():
        before = uses.get(owner, Use(0, 0))
        uses[owner] = Use(before.bodies + 1, before.size_bytes + max(size_bytes, declared.get((owner, body_id), 0)))
    return uses


def check(uses: dict[str, Use], owner: str, size_bytes: int, most_per_key_bytes: int, most_bytes: int) -> None:
    """Let one more body pass.

    Raises:
        RequestError: ``UPLOAD_LIMIT``: there would be too many, or too many bytes of them.
    """
    own = uses.get(owner, Use(0, 0))
    bodies, used_bytes = sum(one.bodies for one in uses.values()), sum(one.size_bytes for one in uses.values())
    if own.bodies >= MOST_PER_KEY:
        _refuse(f"Your key may have {MOST_PER_KEY} large bodies here at a time; delete one, or wait until one expires.")
    if own.size_bytes + size_bytes > most_per_key_bytes:
        _refuse(f"Your key's large bodies may take {most_per_key_bytes >> 20} MiB together; delete one, or wait.")
    if bodies >= MOST_IN_TOTAL or used_bytes + size_bytes > most_bytes:
        _refuse("All keys together have too many large bodies here; come again later.")


def _refuse(message: str) -> None:
    raise RequestError(UPLOAD_LIMIT, message, retry_after_s=RETRY_AFTER_S)
