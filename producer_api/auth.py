"""Authentication: API keys, checked in constant time, read again when their file changes [I/O: the file]."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from shared import files
from shared.api_keys import LONGEST_BYTES, ApiKey, digest_of, parse
from shared.files import FileRefused
from shared.settings import SettingsError
from shared.wire.outcomes import CLIENT_LIMIT, UNAUTHORIZED, RequestError

log = logging.getLogger("headrace.auth")

RELOAD_S = 1.0
CONSOLE_FILES = "/console/static/"
"""Below this path are the files of the console's page."""

OPEN_PATHS = frozenset(
    {"/", "/console", "/console/", "/docs", "/healthz", "/openapi.json", "/ping", "/readyz", "/v2/health/live"}
    | {"/v2/health/ready"}
)
"""Paths that need no key: probes cannot send one, and learn only yes or no; the documentation says nothing about this
installation but its limits; the console's page says nothing of it, and asks for a key before it shows anything."""


def is_open(path: str) -> bool:
    """Say whether a path needs no key, unless a setting gave it to inference."""
    return path in OPEN_PATHS or path.startswith(CONSOLE_FILES)


_SCHEME = b"bearer "
# Looked up by a part of the hash: no client can choose what a key hashes to, so the time of that reveals nothing.
_INDEX_BYTES = 8
_NOBODY = bytes(32)
_UNREADABLE = (0,)
"""Stands for what is known of a file that could not be read."""


class Client:
    """The holder of an API key.

    Attributes:
        key: what the file says of it.
        revoked: the key is in force no more; what was remembered of it must not be used.
        in_flight: predict requests of this client that are being answered.
    """

    __slots__ = ("in_flight", "key", "revoked")

    def __init__(self, key: ApiKey) -> None:
        self.key, self.revoked, self.in_flight = key, False, 0

    def enter(self) -> None:
        """Count one more request; each that entered must leave.

        Raises:
            RequestError: ``UNAUTHORIZED`` or ``CLIENT_LIMIT``.
        """
        if self.revoked:
            raise unauthorized()
        most = self.key.max_in_flight
        if most is not None and self.in_flight >= most:
            raise RequestError(CLIENT_LIMIT, f"Your key may have {most} requests waiting at a time.", retry_after_s=1)
        self.in_flight += 1

    def leave(self) -> None:
        """One request less."""
        self.in_flight -= 1


def unauthorized() -> RequestError:
    """Make the refusal: the same for a missing, a wrong, an expired and a revoked key."""
    return RequestError(UNAUTHORIZED, "A valid API key is needed: Authorization: Bearer KEY.")


class KeyCheck:
    """Checks requests against the keys of a file.

    Args:
        path: the file of keys; ``docs/security.md`` has its format.
        now_s: POSIX time; expiry depends on it.

    Raises:
        SettingsError: the file cannot be used.
    """

    def __init__(self, path: str, now_s: Callable[[], float] = time.time) -> None:
        self._path, self._now_s = Path(path), now_s
        self._stamp: tuple[int, ...] | None = None
        self._clients: dict[bytes, Client] = {}
        try:
            self._stamp = self._stamp_now()
            self._take(parse(files.read_text(self._path, files.TABLE_BYTES)))
        except (OSError, ValueError) as error:
            raise SettingsError(f"HEADRACE_KEYS_FILE: {files.shown(path)} cannot be used: {_why(error)}") from None

    def check(self, credentials: Iterable[bytes]) -> Client:
        """Return the client of a request, from the values of its ``Authorization`` headers.

        Each refusal takes the same steps: one hash, one lookup, one comparison, whatever is sent and whatever is known.

        Raises:
            RequestError: ``UNAUTHORIZED``.
        """
        values = list(credentials)
        value = values[0] if len(values) == 1 else b""
        offered = value[len(_SCHEME) :].strip() if value[: len(_SCHEME)].lower() == _SCHEME else b""
        digest = digest_of(offered[:LONGEST_BYTES])
        client = self._clients.get(digest[:_INDEX_BYTES])
        known = hmac.compare_digest(_NOBODY if client is None else client.key.digest, digest)
        if not known or client is None or len(offered) > LONGEST_BYTES or self._is_over(client.key):
            raise unauthorized()
        return client

    def knows(self, credentials: Iterable[bytes]) -> bool:
        """Say whether :meth:`check` would accept them."""
        try:
            self.check(credentials)
        except RequestError:
            return False
        return True

    def _is_over(self, key: ApiKey) -> bool:
        return key.expires_s is not None and key.expires_s <= self._now_s()

    def refresh(self) -> None:
        """Read the file again if it has changed; one that cannot be used is reported and the old keys stay in force.

        Keys that have expired meanwhile are revoked in any case.
        """
        for client in self._clients.values():
            if self._is_over(client.key):
                client.revoked = True
        try:
            stamp = self._stamp_now()
            if stamp == self._stamp:
                return
            text = files.read_text(self._path, files.TABLE_BYTES)
        except (OSError, FileRefused) as error:
            if self._stamp != _UNREADABLE:
                self._complain(error)
            self._stamp = _UNREADABLE  # logged once; checked again until it can be read
            return
        self._stamp = stamp
        try:
            self._take(parse(text))
        except ValueError as error:
            self._complain(error)
            return
        log.info("%d API keys are in force.", len(self._clients))

    def _complain(self, error: Exception) -> None:
        log.error("The file of API keys cannot be used, the old keys stay in force: %s", _why(error))

    async def watch(self) -> None:
        """Refresh until cancelled."""
        while True:
            await asyncio.sleep(RELOAD_S)
            try:
                self.refresh()
            except Exception as error:  # else a key that is removed later would stay in force
                log.error("The file of API keys could not be looked at: %s.", type(error).__name__)

    def _stamp_now(self) -> tuple[int, ...]:
        state = os.stat(self._path)
        return state.st_mtime_ns, state.st_size, state.st_ino

    def _take(self, keys: Iterable[ApiKey]) -> None:
        """Put ``keys`` in force; clients whose entry has not changed keep their count of requests in progress."""
        old = {client.key: client for client in self._clients.values() if not client.revoked}
        self._clients = {key.digest[:_INDEX_BYTES]: old[key] if key in old else Client(key) for key in keys}
        for client in old.values():
            client.revoked = self._clients.get(client.key.digest[:_INDEX_BYTES]) is not client


def _why(error: Exception) -> str:
    if isinstance(error, FileRefused):
        return f"{error}."
    return f"{error.strerror}." if isinstance(error, OSError) else str(error)
