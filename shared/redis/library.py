"""The library of Redis functions [I/O]: its text, and loading it where it is missing or older."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import redis

from shared import keys, limits

from .errors import ServerError
from .links import Link, SyncLink

log = logging.getLogger(__name__)

T = TypeVar("T")

NAME: Final = "headrace1"

VERSION: Final = 1
"""Rises with each release whose functions differ from those of the last."""

_CHAPTERS: Final = (
    "prelude",
    "message",
    "lane_limits",
    "bytes",
    "webhooks",
    "later",
    "streams",
    "admit",
    "commit",
    "dead",
    "leases",
    "workers",
    "lanes",
    "requests",
    "jobs",
    "bulk",
)
"""In this order: each uses what is in those before it."""

_CONSTANTS: Final = {
    "VERSION": VERSION,
    "GROUP": f"'{keys.GROUP}'",
    "LATER": f"'{keys.LATER}'",
    "ENDS_CAP": limits.ENDS_CAP,
    "ENDS_MS": limits.ENDS_MS,
    "MOST_VALUES": limits.MAX_VALUES,
    "HOOKS_CAP": limits.HOOKS_CAP,
    "HOOKS_MS": limits.HOOKS_MS,
    "HOOKS_DEAD_CAP": limits.HOOKS_DEAD_CAP,
    "HOOKS_DEAD_MS": limits.HOOKS_DEAD_MS,
    "BULK_MS": limits.BULK_MS,
}

_VERSION: Final = re.compile(r"#![^\n]*\n-- version (\d{1,9})\n")


@cache
def source() -> str:
    """Return the text of the library: a head with its version, what Python and Lua both know, and the chapters."""
    head = f"#!lua name={NAME}\n-- version {VERSION}\n"
    known = "".join(f"local {name} = {value}\n" for name, value in _CONSTANTS.items())
    folder = Path(__file__).with_name("lua")
    chapters = (folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in _CHAPTERS)
    return "\n".join((head + known, *chapters))


@cache
def names() -> tuple[str, ...]:
    """Return the names of the functions that the library registers."""
    return tuple(re.findall(r"register\('(\w+)'", source()))


def version(code: str) -> int:
    """Return the version of a library, 0 where it has none."""
    found = _VERSION.match(code)
    return int(found[1]) if found else 0


Command = Sequence[Any]
LOOK: Sequence[Command] = (
    ("WATCH", keys.FUNCTIONS),
    ("FUNCTION", "LIST", "LIBRARYNAME", NAME, "WITHCODE"),
)
"""The commands whose answers say which library is there, and begin a transaction that fails when another is loaded."""


def library_code(listed: Any) -> str | None:
    """Return the library's text in FUNCTION LIST's answer; None where it is not loaded."""
    if not listed:
        return None
    flat = listed[0]
    fields = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    code = fields.get(b"library_code")
    return code.decode(errors="replace") if isinstance(code, bytes) else None


def is_kept(there: str | None, code: str) -> bool:
    """Say whether the library that is on the server stays where ``code`` is to be loaded: it is the same, or newer.

    A newer one has every function that an older one has, so a process of the older version goes on with it; replacing
    it would take the functions from all that are of the newer version.
    """
    if there is not None and version(there) > version(code):
        log.info("The server's functions are of version %d, newer than %d, and stay.", version(there), version(code))
        return True
    return there == code


def replace(code: str) -> Sequence[Command]:
    """Return the commands that end the transaction of ``LOOK``; the last answer is None where it failed.

    Loading touches no key that others could watch; so every process that loads writes one and deletes it.
    """
    load = ("FUNCTION", "LOAD", "REPLACE", code)
    return (("MULTI",), ("SET", keys.FUNCTIONS, ""), ("DEL", keys.FUNCTIONS), load, ("EXEC",))


def load(client: redis.Redis) -> bool:
    """Load the library where it is missing or older; returns False where a newer one is there and stays.

    Raises:
        RedisError: it may not be loaded, or the connection failed.
    """
    return load_code(client, source())


def load_code(client: redis.Redis, code: str) -> bool:
    """As :func:`load`, with another version's text."""
    link = SyncLink(client)
    try:
        while not is_kept(there := library_code(_last(link.call_many(LOOK))), code):
            if _last(link.call_many(replace(code))) is not None:
                return True
        return there == code
    finally:
        link.close()


async def call_many(link: Link, *commands: Command) -> list[Any]:
    """Send commands and return their answers in order, error answers as ``ServerError`` objects.

    Where the functions are missing they are loaded, and the commands that call one are sent again.

    Raises:
        ServerError: the functions may not be loaded.
        RedisError: the connection failed; which commands took effect is unknown.
    """
    answers = await link.call_many(commands)
    missing = [index for index, answer in enumerate(answers) if is_missing(answer)]
    if missing:
        log.info("The functions are not in Redis; loading them.")
        while not is_kept(library_code(_last(await link.call_many(LOOK))), source()):
            if _last(await link.call_many(replace(source()))) is not None:
                break
        again = await link.call_many([commands[index] for index in missing])
        for index, answer in zip(missing, again, strict=True):
            answers[index] = answer
    return answers


def call_loaded(client: redis.Redis, call: Callable[[], T]) -> T:
    """Return what ``call`` returns, which calls functions; where these are missing, load them and call again.

    Raises:
        RedisError: what ``call`` raises, or the functions may not be loaded.
    """
    try:
        return call()
    except ServerError as error:
        if not is_missing(error):
            raise
    log.info("The functions are not in Redis; loading them.")
    load(client)
    return call()


def _last(answers: list[Any]) -> Any:
    """Return the last of some answers, which may be that of EXEC.

    Raises:
        ServerError: one of them, or inside it, is an error.
    """
    last = answers[-1]
    for answer in (*answers, *(last if isinstance(last, list) else ())):
        if isinstance(answer, ServerError):
            raise answer
    return last


def is_missing(error: object) -> bool:
    """Say whether ``error`` is Redis's answer to a call of a function that is not loaded."""
    return isinstance(error, ServerError) and "function not found" in str(error).lower()
