"""Measurements of earlier starts, stored in a file so that the next start is quick.

It only ever saves time: what it advises is checked against fp32 at every start. So a file that is missing, damaged or
of another machine is simply not used, and one that cannot be written is a remark in the log.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

log = logging.getLogger(__name__)

MOST_BYTES = 1 << 20


class StartCache:
    """A few JSON values under names, valid for one set of circumstances.

    Args:
        folder: where the file is, made when something is written; None keeps the values in memory only.
        name: begins the file's name.
        circumstances: what the values depend on; other circumstances have a file of their own.
    """

    def __init__(self, folder: Path | None = None, name: str = "", circumstances: Mapping[str, str] = {}) -> None:
        self._circumstances = dict(circumstances)
        digest = hashlib.sha256(msgspec.json.encode(sorted(self._circumstances.items()))).hexdigest()
        self._path = None if folder is None else folder / f"{name}-{digest[:16]}.json"
        self._values: dict[str, Any] | None = None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process of this machine measures in these circumstances, and read what it found then."""
        with ExitStack() as held:
            if self._path is not None:
                try:
                    _make_private(self._path.parent)
                    lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
                    fcntl.flock(held.enter_context(os.fdopen(lock, "wb")), fcntl.LOCK_EX)
                except OSError as error:
                    log.warning("The measurements cannot be shared, because %s: %s", self._path.parent, error)
                self._values = None
            yield

    def get(self, name: str) -> Any:
        """Return the value under ``name``, or None; it comes from a file and may be of any type."""
        return self._read().get(name)

    def put(self, name: str, value: Any) -> None:
        """Keep ``value``. A reader sees the whole file of before or of after."""
        values = self._read()
        if values.get(name) == value:
            return
        values[name] = value
        if self._path is None:
            return
        content = msgspec.json.format(msgspec.json.encode({"circumstances": self._circumstances, "values": values}))
        try:
            _replace(self._path, content)
        except OSError as error:
            log.warning(
                "The measurements cannot be stored in %s (%s); the next start measures again.", self._path, error
            )

    def _read(self) -> dict[str, Any]:
        if self._values is None:
            self._values = {} if self._path is None else _values(self._path, self._circumstances)
        return self._values


def _values(path: Path, circumstances: dict[str, str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            document = msgspec.json.decode(file.read(MOST_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s is not used, because it cannot be read: %s", path, error)
        return {}
    if not isinstance(document, dict) or document.get("circumstances") != circumstances:
        return {}
    values = document.get("values")
    return values if isinstance(values, dict) else {}


def _make_private(folder: Path) -> None:
    for one in (folder.parent, folder):  # the data folder is the user's alone, like all that is in it
        one.mkdir(mode=0o700, parents=True, exist_ok=True)


def _replace(path: Path, content: bytes) -> None:
    _make_private(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
