"""Large bodies in shared memory [I/O]: what a front end and the consumers of its machine must agree on.

A front end keeps bodies in a file of its own below ``/dev/shm`` until their answers are here, and the request in the
queue says where its body is (``docs/protocol.md``). Only processes of one user on one machine can do that. They find
out by the folder itself: each publishes which one it sees, and containers see different ones.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from shared.names import NAME_PATTERN

from .outcomes import Outcome

BODY_GONE = Outcome("body_gone", 503, lasting=False)
"""A consumer did not find a body. Its front end sends the request again with the body, so no client ever sees this."""

ROOT = Path("/dev/shm")
BOOT = Path("/proc/sys/kernel/random/boot_id")

LEAST_BYTES = 16 * 1024
MOST_BYTES = 1024 * 1024
"""Sizes of the bodies that go this way: smaller ones are quick anyway, larger ones would block the event loop."""

LAYOUT = 1
"""Of files and stamps. A version that changes it does not share bodies with those before it."""

KEY_BYTES = 32
HEAD_BYTES = 4096
"""A file begins with its key, and with nothing else in its first page."""

STAMP_BYTES = 16
"""Each body has its own stamp in front: a reader that finds it after copying has copied that body completely."""

_AT = re.compile(rf"({NAME_PATTERN}):([0-9]{{1,15}}):([0-9]{{1,15}}):([0-9a-f]{{32}})\Z")


class At(NamedTuple):
    """Where a body is: ``size_bytes`` behind the stamp at ``offset`` of a file in the folder."""

    file: str
    offset: int
    size_bytes: int
    stamp: bytes

    def text(self) -> str:
        """Return it as the member ``at`` of a request."""
        return f"{self.file}:{self.offset}:{self.size_bytes}:{self.stamp.hex()}"


def parse(text: str) -> At | None:
    """Read the member ``at`` of a request; None when it is none."""
    match = _AT.match(text)
    return None if match is None else At(match[1], int(match[2]), int(match[3]), bytes.fromhex(match[4]))


class Owner(NamedTuple):
    """The one request that a body belongs to."""

    model: str
    lane: str
    id: str


def stamp_of(key: bytes, owner: Owner, offset: int, size_bytes: int) -> bytes:
    """Return the stamp of a body: making one takes reading the file, and it fits no other request or place.

    Direct producers may write what they like into their lanes, references to others' bodies, too.
    """
    text = f"{owner.model} {owner.lane} {owner.id} {offset} {size_bytes}"  # names hold no spaces
    return hashlib.blake2b(text.encode(), key=key, digest_size=STAMP_BYTES).digest()


def open_folder() -> Path | None:
    """Return this user's folder, made if missing; None without such memory, or if another user made it."""
    folder = ROOT / f"headrace-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:  # not Linux, or it cannot be written
        return None
    is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return folder if is_own else None


def identity_of(folder: Path) -> str:
    """Return a name that two processes have in common if they see the same folder and use it alike; empty for none.

    The number of a folder is the machine's own, and so is that of the file system which a container has for itself.
    """
    try:
        found = folder.stat()
        boot = BOOT.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
    return hashlib.sha256(f"{LAYOUT} {boot} {found.st_dev} {found.st_ino}".encode()).hexdigest()[:32]
