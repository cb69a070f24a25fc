"""One port for several front ends: which ones may share it, and the number of each [I/O: files in the data folder].

The kernel lets any process of a user share a port that was opened for sharing. That is too permissive: another program
that does the same, or a front end on another Redis, would answer a part of the clients. So a front end shares a port
only with those that hold a seat in the same data folder, and the first one takes it only if no process has it.

A seat is a lock on a file, and ends with its process, however that ends. A separate lock, the door, guards taking a
seat and its port: of two front ends that start at once one waits for the other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from shared import redis_url
from shared.net.listener import can_share
from shared.settings import MOST_FRONT_ENDS, Settings, SettingsError

from .server import take_address

FOLDER: Final = "front-ends"
DOOR_S: Final = 10.0
"""Longest wait for those that start at the same moment; each takes about a millisecond."""

HIGH_DESCRIPTOR: Final = 4000
"""Higher than those of most connections; the kernel's table of them has so many places then, eight bytes each."""

_DOOR_POLL_S: Final = 0.005
_MOST_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Seat:
    """The place of one front end on a port.

    Attributes:
        number: from 0; no other front end on the port has it.
        listener: bound to the port, and not listening yet.
        lock: descriptor that holds the seat until it is closed.
    """

    number: int
    listener: socket.socket
    lock: int


def take(settings: Settings, number: int | None = None) -> Seat:
    """Take a place on the port of ``settings``.

    Args:
        number: the one to take; None for the lowest that is free.

    Raises:
        SettingsError: the port cannot be shared, something else has it, all places are taken, or the front ends on the
            others serve something else.
    """
    if not can_share():
        raise SettingsError("HEADRACE_FRONT_ENDS: only Linux deals one port out to several processes; set it to 1.")
    if settings.port == 0:
        raise SettingsError("HEADRACE_PORT: a port that several front ends share must be named; 0 is any free one.")
    if settings.grpc_port == 0:
        raise SettingsError("HEADRACE_GRPC_PORT: several front ends share it, so it must be named; 0 is any free one.")
    folder = Path(settings.data_dir) / FOLDER
    own = terms(settings)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _door(folder, settings.port):
            others = {one: _held_terms(folder, settings.port, one) for one in range(MOST_FRONT_ENDS)}
            taken = {one: found for one, found in others.items() if found is not None}
            for found in taken.values():
                _check_terms(own, found)
            if not taken:
                take_address(settings.host, settings.port).close()  # a stranger that shares it would not be noticed
                if settings.grpc_port is not None:
                    take_address(settings.host, settings.grpc_port, setting="HEADRACE_GRPC_PORT").close()
            chosen = _choose(settings, number, taken)
            lock = _hold(folder, settings, chosen, own)
            try:
                taken_port = take_address(settings.host, settings.port, shared=True)
                return Seat(chosen, _first_to_close(taken_port), lock)
            except SettingsError:
                os.close(lock)
                raise
    except OSError as error:
        raise SettingsError(
            f"HEADRACE_DATA_DIR: front ends that share a port keep a file each in {folder}, which cannot be used "
            f"({error.strerror or error})."
        ) from None


def terms(settings: Settings) -> dict[str, str]:
    """Return what all front ends on a port must have in common, by the name of its setting; passwords are left out."""
    files = {"HEADRACE_KEYS_FILE": settings.keys_file, "HEADRACE_TLS_CERT_FILE": settings.tls_cert_file}
    return {
        "HEADRACE_HOST": settings.host,
        "HEADRACE_GRPC_PORT": "" if settings.grpc_port is None else str(settings.grpc_port),
        "HEADRACE_REDIS_URL": redis_url.shown(settings.redis_address),
        **{name: "" if path is None else str(Path(path).absolute()) for name, path in files.items()},
    }


def _check_terms(own: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name, value in own.items():
        if found.get(name, value) != value:
            raise SettingsError(
                f"{name}: the front ends that share the port must have the same; another has "
                f"{found[name] or 'none'}, this one {value or 'none'}."
            )


def _choose(settings: Settings, number: int | None, taken: Mapping[int, object]) -> int:
    where = f"Port {settings.port} of {settings.host}"
    if number is None:
        number = next((one for one in range(settings.front_ends) if one not in taken), None)
        if number is None:
            raise SettingsError(
                f"{where} is in use by {len(taken)} front ends, as many as HEADRACE_FRONT_ENDS lets share it."
            )
    elif number in taken:
        raise SettingsError(f"{where} is in use by another front end with the number {number}.")
    return number


@contextmanager
def _door(folder: Path, port: int) -> Iterator[None]:
    door = _open(folder / f"{port}.door")
    give_up_s = time.monotonic() + DOOR_S
    try:
        while not _lock(door):
            if time.monotonic() >= give_up_s:
                raise SettingsError(f"Port {port}: another front end has been about to take it for {DOOR_S:g} s.")
            time.sleep(_DOOR_POLL_S)
        yield
    finally:
        os.close(door)


def _held_terms(folder: Path, port: int, number: int) -> dict[str, str] | None:
    """Return the terms of the process that holds a seat; None if it is free."""
    try:
        seat = os.open(_file(folder, port, number), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _lock(seat):
            return None
        with suppress(msgspec.MsgspecError):  # written by another version
            return msgspec.json.decode(os.pread(seat, _MOST_BYTES, 0), type=dict[str, str])
        return {}
    finally:
        os.close(seat)


def _hold(folder: Path, settings: Settings, number: int, own: Mapping[str, str]) -> int:
    seat = _open(_file(folder, settings.port, number))
    if not _lock(seat):
        os.close(seat)
        raise SettingsError(f"Port {settings.port}: the place {number} was taken by another process just now.")
    os.ftruncate(seat, 0)
    os.pwrite(seat, msgspec.json.encode(own), 0)
    return seat


def _first_to_close(listener: socket.socket) -> socket.socket:
    """Give a listener a high number: of a process that is killed Linux closes the files from the highest down.

    So the port closes before the connections, and a client that loses one and reconnects reaches another
    process, not the dead one again.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        number = fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD_CLOEXEC, min(soft - 1, HIGH_DESCRIPTOR))
    except OSError:
        return listener
    listener.close()
    return socket.socket(fileno=number)


def _file(folder: Path, port: int, number: int) -> Path:
    return folder / f"{port}.{number}"


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True
