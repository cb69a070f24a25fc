"""API keys: the file that lists them, hashed, and how a key is made. Pure.

A key is 32 random bytes, so a plain SHA-256 keeps it: there is nothing to guess that a slow hash would protect.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import tomllib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .keys import DEFAULT_LANE
from .names import is_name

LONGEST_BYTES = 512
"""A longer key is refused before it is hashed."""

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_FIELDS = {"sha256", "lane", "max_in_flight", "expires", "console", "lanes"}

MOST_LANES = 64
"""That a key may choose: as many as a model has."""

CONSOLE_ROLES = ("read", "operate")
"""What a key may be allowed to do on the console; one without a role has no access to it."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One line of the list.

    Attributes:
        name: of the client that holds the key.
        digest: SHA-256 of the key.
        lane: where the client's requests go.
        max_in_flight: requests of this client that may wait in one front end, None for no limit of its own.
        expires_s: POSIX time from which on the key is refused, None for never.
        console: one of ``CONSOLE_ROLES``, None for no access to the console.
        lanes: others that the client may choose for a request.
    """

    name: str
    digest: bytes
    lane: str = DEFAULT_LANE
    max_in_flight: int | None = None
    expires_s: float | None = None
    console: str | None = None
    lanes: tuple[str, ...] = ()


def new_key() -> str:
    """Make a key."""
    return f"hr_{secrets.token_urlsafe(32)}"


def digest_of(key: bytes) -> bytes:
    """Hash a key as the file holds it."""
    return hashlib.sha256(key).digest()


def parse(text: str) -> tuple[ApiKey, ...]:
    """Read the text of a file of keys.

    Raises:
        ValueError: it is not such a file; the sentence names the key and the member, and shows no hash.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Its message may show a part of the file. A number of thousands of digits is a ValueError, too.
        line = re.search(r"line \d+", str(error))
        raise ValueError(f"It is not TOML{f' ({line[0]})' if line else ''}.") from None
    tables = document.get("keys")
    if set(document) != {"keys"} or not isinstance(tables, dict) or not tables:
        raise ValueError("It must have tables [keys.NAME] and nothing else, at least one.")
    found = tuple(_key(name, table) for name, table in tables.items())
    if len({key.digest for key in found}) != len(found):
        raise ValueError("Two names have the same key.")
    return found


def _key(name: str, table: Any) -> ApiKey:
    if not is_name(name):
        raise ValueError("A name in it is not 1 to 64 letters, digits, '_' or '-'.")
    if not isinstance(table, dict) or not set(table) <= _FIELDS:
        raise ValueError(f"keys.{name} may have sha256, lane, max_in_flight, expires, console and lanes only.")
    digest = table.get("sha256")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise ValueError(f"keys.{name}.sha256 must be 64 hexadecimal digits in lower case.")
    lane = table.get("lane", DEFAULT_LANE)
    if not isinstance(lane, str) or not is_name(lane):
        raise ValueError(f"keys.{name}.lane must be 1 to 64 letters, digits, '_' or '-'.")
    most = table.get("max_in_flight")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise ValueError(f"keys.{name}.max_in_flight must be a whole number from 1 on.")
    expires = table.get("expires")
    if expires is not None and (not isinstance(expires, datetime) or expires.tzinfo is None):
        raise ValueError(f"keys.{name}.expires must be a time with its zone, such as 2030-01-31T00:00:00Z.")
    role = table.get("console")
    if role is not None and role not in CONSOLE_ROLES:
        raise ValueError(f"keys.{name}.console must be read or operate.")
    expires_s = None if expires is None else expires.timestamp()
    return ApiKey(name, bytes.fromhex(digest), lane, most, expires_s, role, _lanes(name, table.get("lanes", [])))


def _lanes(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_LANES or not all(map(is_name, value)):
        raise ValueError(f"keys.{name}.lanes must be a list of at most {MOST_LANES} names of lanes.")
    return tuple(dict.fromkeys(value))
