"""The folder of search results: one subfolder for each model and fingerprint [I/O].

An entry only saves time. A consumer ignores one that is missing, damaged or of another fingerprint, and logs why; it
also logs an entry that it cannot write. The subfolder holds a part, which is a folder with the files of a runtime, and
a document that names the part and its files. The document is replaced in one step, so a reader sees the old result or
the new one, never a mixture and never nothing; the old part stays for its readers.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import msgspec

from consumer.runtimes.spec import ClassifierSpec

from .findings import Finding, check

log = logging.getLogger(__name__)

FILE = "entry.json"
MOST_BYTES = 16 << 20

MOST_ENTRIES = 16
"""Kept for one model: a new version of its weights or of a library makes one of its own, of some hundred megabytes."""


class Busy(Exception):
    """Another process on this machine tunes this model."""


class _Mark(msgspec.Struct, frozen=True):
    """What a file must be. The size is there so that a file which cannot be right is not read to its end."""

    size: int
    sha256: str


class _Document(msgspec.Struct, frozen=True):
    """What is in the file of an entry: ``part`` is where the others are, ``files`` maps their names to marks."""

    circumstances: dict[str, str]
    spec: ClassifierSpec
    finding: Finding
    part: str
    files: dict[str, _Mark]


@dataclass(frozen=True, slots=True)
class Entry:
    """A finding with its files.

    Attributes:
        spec: what a classifier has to know of the network.
        folder: where the runtime's files are.
        stamp: another one for each time that it was written.
    """

    finding: Finding
    spec: ClassifierSpec
    folder: Path
    stamp: int


class Store:
    """The entry of one model and fingerprint.

    Args:
        folder: of all entries.
        model: its name.
        circumstances: see :func:`consumer.tuning.fingerprint.fingerprint`.
    """

    def __init__(self, folder: Path, model: str, circumstances: Mapping[str, str]) -> None:
        self._root, self._circumstances = folder, dict(circumstances)
        digest = hashlib.sha256(msgspec.json.encode(sorted(self._circumstances.items()))).hexdigest()
        self.folder = folder / f"{model}-{digest[:16]}"

    def stamp(self) -> int | None:
        """Say which entry is there, with one look at the folder; None for none."""
        try:
            return _stamp_of((self.folder / FILE).lstat())
        except OSError:
            return None

    def find(self) -> Entry | None:
        """Return the entry if it is whole and of these circumstances."""
        try:
            return self._read()
        except FileNotFoundError as error:
            if error.filename == str(self.folder / FILE):
                return None
            said: Exception = error
        except (OSError, ValueError, RecursionError) as error:
            said = error
        log.warning("What was found for this model is not used, because %s is damaged: %s", self.folder, said)
        return None

    def _read(self) -> Entry:
        with _opened(self.folder / FILE) as file:
            stamp = _stamp_of(os.fstat(file.fileno()))
            document = msgspec.json.decode(file.read(MOST_BYTES), type=_Document)
        if document.circumstances != self._circumstances:
            raise ValueError("it has another fingerprint.")
        check(document.finding)
        for name in (document.part, *document.files):
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise ValueError(f"it names a file outside of its folder: {name[:80]!r}.")
        part = self.folder / document.part
        for name, mark in document.files.items():
            if _mark(part / name, mark.size) != mark:
                raise ValueError(f"{name[:80]} is not the file that was written.")
        return Entry(document.finding, document.spec, part, stamp)

    def put(self, finding: Finding, spec: ClassifierSpec, files: Path) -> None:
        """Keep a finding with all that is in the folder ``files``, which is moved. Call it with the lock held.

        Raises:
            OSError: the folder cannot be written.
        """
        marks = {path.name: _mark(path) for path in sorted(files.iterdir()) if path.is_file()}
        _flush(files)
        self._make_way()
        part = Path(tempfile.mkdtemp(dir=self.folder, prefix="files-"))
        os.chmod(files, 0o700)
        os.rename(files, part)
        document = _Document(self._circumstances, spec, finding, part.name, marks)
        before = self._part_in_use()
        try:
            self._write(msgspec.json.format(msgspec.json.encode(document)))
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        for left in self.folder.iterdir():
            if left.name not in (FILE, part.name, before):
                _remove(left)
        self._forget()

    def _forget(self) -> None:
        """Remove the oldest entries of this model; not those that are searched for now, whose lock is held."""
        model, _, digest = self.folder.name.rpartition("-")
        entries = [(_age_of(one), one) for one in self._root.glob(f"{model}-{'[0-9a-f]' * len(digest)}")]
        for _, entry in sorted(entries)[:-MOST_ENTRIES]:
            with suppress(OSError, Busy), _locked(self._root / f"{entry.name}.lock", waits=False):
                _remove(entry)

    def _make_way(self) -> None:
        """Make the folder of the entry, in the place of whatever else is there."""
        if self.folder.is_symlink() or not self.folder.is_dir():
            _remove(self.folder)
        _make_private(self._root)
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def _part_in_use(self) -> str | None:
        with suppress(OSError, ValueError, RecursionError), _opened(self.folder / FILE) as file:
            return msgspec.json.decode(file.read(MOST_BYTES), type=_Document).part
        return None

    def _write(self, content: bytes) -> None:
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".entry-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            place = self.folder / FILE
            if place.is_dir() and not place.is_symlink():
                _remove(place)
            os.replace(temporary, place)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    @contextmanager
    def room(self) -> Iterator[Path]:
        """Give a folder to make an entry in, on the same file system; what is left of it goes afterwards.

        Call it with the lock held.

        Raises:
            OSError: the folder cannot be written.
        """
        _make_private(self._root)
        self._sweep()
        path = Path(tempfile.mkdtemp(dir=self._root, prefix=f".{self.folder.name}-"))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove the folders of searches that were killed, this model's and others': those whose lock is free."""
        for left in self._root.glob(".*-*"):
            name = left.name[1:].rpartition("-")[0]
            if name == self.folder.name:
                _remove(left)
                continue
            with suppress(OSError, Busy), _locked(self._root / f"{name}.lock", waits=False, makes=False):
                _remove(left)

    @contextmanager
    def lock(self, waits: bool = True, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Lock this model against tuning by other processes of this machine.

        Args:
            waits: wait for a process that tunes it now.
            on_wait: called before such a wait.

        Raises:
            Busy: another process does it, and ``waits`` is false.
            OSError: the folder cannot be written.
        """
        _make_private(self._root)
        with _locked(self._lock_file, waits, on_wait=on_wait):
            yield

    def is_being_searched(self) -> bool:
        """Say whether a process on this machine holds the lock."""
        try:
            with _locked(self._lock_file, waits=False, makes=False):
                return False
        except Busy:
            return True
        except OSError:
            return False

    @property
    def _lock_file(self) -> Path:
        return self._root / f"{self.folder.name}.lock"


@contextmanager
def _locked(path: Path, waits: bool, makes: bool = True, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if makes else 0)
    handle = os.open(path, flags, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waits:
                raise Busy(str(path)) from None
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make_private(folder: Path) -> None:
    for one in (folder.parent, folder):  # the data folder is the user's alone, like all that is in it
        one.mkdir(mode=0o700, parents=True, exist_ok=True)


def _remove(path: Path) -> None:
    """Remove whatever is there; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _opened(path: Path) -> BufferedReader:
    """Open a file, but no link, and nothing that one could wait for, such as a pipe.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is something else.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path.name} is not a file.")
    return os.fdopen(handle, "rb")


def _mark(path: Path, expected_size: int | None = None) -> _Mark:
    """Describe a file; one that has not the expected size is not read."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        is_read = expected_size in (None, size)
        return _Mark(size, hashlib.file_digest(file, "sha256").hexdigest() if is_read else "")


def _age_of(entry: Path) -> int:
    """Say when an entry was written, in nanoseconds; 0 where there is none."""
    try:
        return (entry / FILE).lstat().st_mtime_ns
    except OSError:
        return 0


def _stamp_of(status: os.stat_result) -> int:
    return status.st_mtime_ns ^ status.st_ino


def _flush(folder: Path) -> None:
    """Bring the files to the disk before a document names them: after a crash there is a whole entry or none.

    Raises:
        OSError: the disk has no room for them.
    """
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
