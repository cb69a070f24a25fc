"""The file of users that a Redis server reads, and a password for each of them [I/O: files]."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from shared import files
from shared.files import FileRefused
from shared.names import check_name

from . import acl

VARIABLE = "REDIS_PASSWORD_"
LEAST_CHARACTERS = 16
"""Of a password that is given: what the server keeps is a quick hash, which must not be worth guessing at."""

NOBODY = "user default reset off ~* &* +@all"
"""The default user, for connections that give no name: switched off. Redis 7 replays its append-only file as this user,
and skips what a function wrote, accepted requests above all, unless the user has every right."""


def write(
    folder: Path,
    environment: Mapping[str, str],
    producers: Sequence[tuple[str, str, str]] = (),
    database: int = 0,
    others: Sequence[str] = (),
    console: str = "operate",
) -> list[str]:
    """Write ``server/users.acl``, and ``USER/password`` for each role and direct producer, into ``folder``.

    Args:
        folder: made when missing.
        environment: may hold passwords.
        producers: name, model and lane of each direct producer.
        database: the one that the keys are in.
        others: programs that need a password and are no users of Redis, such as ``grafana``.
        console: what the console of front ends may do; see :data:`acl.CONSOLE`.

    A second run keeps the passwords, unless the environment has others, and rewrites the rules.

    Returns:
        The names of the users.

    Raises:
        ValueError: a name is none, or a password of the environment cannot be used; the sentence does not show it.
        OSError: a file cannot be written.
    """
    rules: dict[str, Callable[[str], str]] = {
        role: partial(acl.rule, role, database=database, console=console) for role in acl.ROLES
    }
    for producer in producers:
        acl.producer_rule(*producer, "resetpass")  # before anything is written
        rules[producer[0]] = partial(acl.producer_rule, *producer, database=database)
    passwords = {
        user: _password(folder / user / "password", environment.get(variable), variable)
        for user in rules
        for variable in [f"{VARIABLE}{user.upper()}"]
    }
    for user, password in passwords.items():
        _replace(folder / user / "password", f"{password}\n", 0o400)
    for name in others:
        variable = f"{check_name(name, 'The program').upper()}_PASSWORD"
        place = folder / name / "password"
        # Readable by that program, as whatever user it runs: only that program mounts the folder.
        _replace(place, f"{_password(place, environment.get(variable), variable)}\n", 0o444)
    hashes = {user: hashlib.sha256(password.encode()).hexdigest() for user, password in passwords.items()}
    lines = [NOBODY, *(rule(f"#{hashes[user]}") for user, rule in rules.items())]
    # Readable by the server, which runs as another user: hashes give no access.
    _replace(folder / "server" / "users.acl", "".join(f"{line}\n" for line in lines), 0o444)
    return list(rules)


def _password(place: Path, given: str | None, variable: str) -> str:
    if given:
        if len(given) < LEAST_CHARACTERS or not given.isascii() or not given.isprintable() or " " in given:
            raise ValueError(f"{variable} must have {LEAST_CHARACTERS} printable ASCII characters or more, no space.")
        return given
    if place.exists():
        try:
            return files.read_text(place, files.SECRET_BYTES).strip()
        except FileRefused as error:
            raise ValueError(f"The password file {place} cannot be read: {error}.") from None
    return secrets.token_urlsafe(32)


def _replace(place: Path, text: str, mode: int) -> None:
    """Write a file in one step: a reader sees the old one or the new one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = place.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=mode & 0o600 | 0o200)
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(mode)
    fresh.replace(place)
