"""A result store in a folder [I/O], for processes of one machine or of several that share it.

The last modification of a file, which lies in the future, is the end of its time. Names are followed from folder to
folder without ever following a symbolic link, so that no key leads out, whoever else writes there.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import Final

from .account import Account
from .store import Found, StoreError, StoreFull, StoreMissing, StoreTooLarge, parts_of

LEFT_BEHIND_S: Final = 3600
"""Age after which a file that was never completed was left by a process that died."""

_COUNT_NAME, _PARTIAL = ".count", ".partial"
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FolderStore:
    """Keeps objects as files below ``root``, see :class:`shared.results.store.Store`.

    A folder that is missing is made; one that the operator has opened to a group is for that group.

    Args:
        root: the folder.
        most_bytes: what all objects may take together, whichever process stores them.

    Raises:
        StoreError: the folder cannot be made or read.
    """

    def __init__(self, root: Path, most_bytes: int) -> None:
        self._most_bytes, self._label = most_bytes, str(root)
        with self._errors():
            self._root = _open_root(root)
            self._mode = 0o770 if os.fstat(self._root).st_mode & stat.S_IWGRP else 0o700
        self._opening = threading.Lock()
        self._account: Account | None = None  # opened with the first change: a folder may be read-only, or become so

    def put(self, key: str, data: bytes, keep_s: float) -> None:
        """Write a file beside the others, then give it its name."""
        parts = parts_of(key)
        with self._errors():
            account = self._opened_account()
            self._check_room(account, 1)  # before anything is written; how much it needs shows when it gets its name
            partial = self._written(data, time.time() + keep_s)
            try:
                with account.held():
                    self._place(account, partial, parts, len(data))
            except BaseException:
                with suppress(OSError):
                    self._remove_partial(partial)
                raise

    def _check_room(self, account: Account, more_bytes: int) -> None:
        if account.read()[0] + more_bytes > self._most_bytes:
            raise StoreFull(
                f"The result store {self._label} is full: HEADRACE_RESULTS_MB allows {self._most_bytes >> 20} MiB."
            )

    def _written(self, data: bytes, expires_s: float) -> str:
        """Write a file that has no key yet, down to the disk; return its name."""
        name = secrets.token_hex(16)
        with self._folder((_PARTIAL,), makes=True) as folder:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
            try:
                os.fchmod(file, self._mode & 0o660)
                _write_all(file, data)
                os.fsync(file)
                os.utime(file, (time.time(), expires_s))
            except BaseException:
                os.unlink(name, dir_fd=folder)
                raise
            finally:
                os.close(file)
        return name

    def _place(self, account: Account, partial: str, parts: tuple[str, ...], size_bytes: int) -> None:
        with self._folder((_PARTIAL,)) as source, self._folder(parts[:-1], makes=True) as target:
            replaced = _size(parts[-1], target)
            self._check_room(account, size_bytes - replaced)
            os.rename(partial, parts[-1], src_dir_fd=source, dst_dir_fd=target)
            account.add(size_bytes - replaced)
            os.fsync(target)

    def _remove_partial(self, name: str) -> None:
        with self._folder((_PARTIAL,)) as folder:
            os.unlink(name, dir_fd=folder)

    def get(self, key: str, most_bytes: int) -> bytes:
        """Read a file."""
        parts = parts_of(key)
        with self._errors(), self._folder(parts[:-1]) as folder:
            handle = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with open(handle, "rb") as file:
                found = os.fstat(handle)
                if not stat.S_ISREG(found.st_mode) or found.st_mtime <= time.time():
                    raise StoreMissing(f"The result store has no {key}.")
                if found.st_size > most_bytes:
                    raise StoreTooLarge(f"{key} has {found.st_size} bytes, and at most {most_bytes} are read.")
                return file.read(found.st_size)  # a file is never changed, only replaced

    def keep(self, key: str, keep_s: float) -> None:
        """Move the end of a file's time."""
        parts, now_s = parts_of(key), time.time()
        with self._errors(), self._folder(parts[:-1]) as folder:
            found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode) or found.st_mtime <= now_s:
                raise StoreMissing(f"The result store has no {key}.")
            if found.st_mtime < now_s + keep_s:
                os.utime(parts[-1], (now_s, now_s + keep_s), dir_fd=folder, follow_symlinks=False)

    def delete(self, key: str) -> bool:
        """Remove a file, and the folders that are empty without it."""
        parts = parts_of(key)
        try:
            with self._errors():
                account = self._opened_account()
                with account.held():
                    self._remove(account, parts)
        except StoreMissing:
            return False
        return True

    def _remove(self, account: Account, parts: tuple[str, ...]) -> None:
        with self._folder(parts[:-1]) as folder:
            size_bytes = _size(parts[-1], folder)
            os.unlink(parts[-1], dir_fd=folder)
            account.add(-size_bytes)
        with suppress(OSError):  # the first that is not empty
            for depth in range(len(parts) - 1, 0, -1):
                with self._folder(parts[: depth - 1]) as folder:
                    os.rmdir(parts[depth - 1], dir_fd=folder)

    def list(self, prefix: str) -> Iterator[Found]:
        """Go through the files, folder by folder."""
        yield from self._below(parts_of(prefix) if prefix else ())

    def _below(self, parts: tuple[str, ...]) -> Iterator[Found]:
        """What a folder holds; names that begin with a dot are the store's own."""
        try:
            with self._errors(), self._folder(parts) as folder, os.scandir(folder) as entries:
                named = [(entry.name, _stat_of(entry)) for entry in entries if not entry.name.startswith(".")]
        except StoreMissing:
            return  # removed meanwhile
        named.sort(key=itemgetter(0))
        for name, found in named:
            if found is None:
                continue
            if stat.S_ISDIR(found.st_mode):
                yield from self._below((*parts, name))
            elif stat.S_ISREG(found.st_mode):
                yield Found("/".join((*parts, name)), found.st_size, found.st_mtime)

    def sweep(self, now_s: float) -> int:
        """Remove what is over and what was never completed, and correct the count of bytes."""
        with self._errors():
            account = self._opened_account()
            changes, used_bytes, removed = account.read()[1], 0, 0
        for found in self.list(""):
            if found.expires_s is not None and found.expires_s <= now_s:
                removed += self.delete(found.key)
            else:
                used_bytes += found.size_bytes
        with self._errors():
            account.correct(used_bytes, changes + removed)
            self._sweep_partial(now_s)
        return removed

    def _sweep_partial(self, now_s: float) -> None:
        with self._folder((_PARTIAL,), makes=True) as folder, os.scandir(folder) as entries:
            for name in [entry.name for entry in entries]:
                found = _stat(name, folder)
                if found is not None and found.st_ctime <= now_s - LEFT_BEHIND_S:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)

    def close(self) -> None:
        """Give the folder back."""
        if self._account is not None:
            self._account.close()
        os.close(self._root)

    def _opened_account(self) -> Account:
        """Return the count of bytes; makes the folder again if it was removed."""
        with self._opening:
            if not os.fstat(self._root).st_nlink:
                self._open_again()
            if self._account is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                file = os.open(_COUNT_NAME, flags, 0o600, dir_fd=self._root)
                self._account = Account(file)
                with suppress(PermissionError):  # another member of the group made it
                    os.fchmod(file, self._mode & 0o660)
            return self._account

    def _open_again(self) -> None:
        """Let the old descriptors name the new folder: other threads may be using them."""
        anew = _open_root(Path(self._label))
        os.dup2(anew, self._root, inheritable=False)
        os.close(anew)
        if self._account is not None:
            self._account = None  # its descriptor stays open for those that hold it, once per removal

    @contextmanager
    def _folder(self, parts: tuple[str, ...], *, makes: bool = False) -> Iterator[int]:
        """Open a folder below the root, and close it."""
        folder = os.dup(self._root)
        try:
            for part in parts:
                if makes:
                    self._make(part, folder)
                inner = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _make(self, name: str, folder: int) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
            if self._mode != 0o700:
                os.chmod(name, self._mode, dir_fd=folder)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the system says into errors of a store."""
        try:
            yield
        except OSError as error:
            why = error.strerror or type(error).__name__
            if error.errno in _ABSENT:
                raise StoreMissing(f"The result store {self._label} has nothing of this name: {why}.") from None
            if error.errno in _NO_ROOM:
                raise StoreFull(f"The result store {self._label} is full: {why}.") from None
            raise StoreError(f"The result store {self._label} cannot be used: {why}.") from None


def _open_root(root: Path) -> int:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _stat(name: str, folder: int) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    return None


def _stat_of(entry: os.DirEntry[str]) -> os.stat_result | None:
    with suppress(FileNotFoundError):
        return entry.stat(follow_symlinks=False)
    return None


def _size(name: str, folder: int) -> int:
    found = _stat(name, folder)
    return 0 if found is None else found.st_size
