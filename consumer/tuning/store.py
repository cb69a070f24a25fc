"""The folder of findings: one subfolder for each model and set of circumstances [I/O].

An entry only ever saves time. One that is missing, damaged or of other circumstances is not used, and the log says why;
one that cannot be written is a sentence, too. A reader sees a whole entry or none: it is made beside its place and
moved there.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from consumer.models.spec import ClassifierSpec

from .findings import Finding

log = logging.getLogger(__name__)

FILE = "entry.json"
MOST_BYTES = 16 << 20
MOST_FILE_BYTES = 16 << 30


class _Document(msgspec.Struct, frozen=True):
    """What is in the file of an entry: ``files`` maps the names of the others to their SHA-256."""

    circumstances: dict[str, str]
    spec: ClassifierSpec
    finding: Finding
    files: dict[str, str]


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
    """The entry of one model in one set of circumstances.

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
            status = (self.folder / FILE).stat()
        except OSError:
            return None
        return status.st_mtime_ns ^ status.st_ino

    def find(self) -> Entry | None:
        """Return the entry if it is whole and of these circumstances."""
        stamp = self.stamp()
        if stamp is None:
            return None
        try:
            document = self._read()
        except (OSError, ValueError, RecursionError) as error:
            log.warning("What was found for this model is not used, because %s is damaged: %s", self.folder, error)
            return None
        return Entry(document.finding, document.spec, self.folder, stamp)

    def _read(self) -> _Document:
        with (self.folder / FILE).open("rb") as file:
            document = msgspec.json.decode(file.read(MOST_BYTES), type=_Document)
        if document.circumstances != self._circumstances:
            raise ValueError("it was made under other circumstances.")
        for name, digest in document.files.items():
            if name in ("", ".", "..") or "/" in name:
                raise ValueError(f"it names a file outside of its folder: {name[:80]!r}.")
            if _digest(self.folder / name) != digest:
                raise ValueError(f"{name} is not the file that was written.")
        return document

    def put(self, finding: Finding, spec: ClassifierSpec, files: Path) -> None:
        """Keep a finding with all that is in the folder ``files``, which is moved.

        Raises:
            OSError: the folder cannot be written.
        """
        digests = {path.name: _digest(path) for path in sorted(files.iterdir()) if path.is_file()}
        document = _Document(self._circumstances, spec, finding, digests)
        (files / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(document)))
        _flush(files)
        old = None
        if self.folder.exists():
            old = Path(tempfile.mkdtemp(dir=self._root, prefix=".old-")) / "entry"
            os.rename(self.folder, old)
        os.rename(files, self.folder)
        if old is not None:
            shutil.rmtree(old.parent, ignore_errors=True)

    @contextmanager
    def room(self) -> Iterator[Path]:
        """Give a folder to make an entry in, on the same file system; what is left of it goes afterwards.

        Call it with the lock held.

        Raises:
            OSError: the folder cannot be written.
        """
        _make_private(self._root)
        for left in (*self._root.glob(f".{self.folder.name}-*"), *self._root.glob(".old-*")):
            shutil.rmtree(left, ignore_errors=True)  # of a search that was ended
        path = Path(tempfile.mkdtemp(dir=self._root, prefix=f".{self.folder.name}-"))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def lock(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Wait until nobody else on this machine tunes this model, and keep it so.

        Args:
            on_wait: called when somebody does.

        Raises:
            OSError: the folder cannot be written.
        """
        _make_private(self._root)
        with (self._root / f"{self.folder.name}.lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _make_private(folder: Path) -> None:
    for one in (folder.parent, folder):  # the data folder is the user's alone, like all that is in it
        one.mkdir(mode=0o700, parents=True, exist_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    """Bring the files to the disk before the folder gets its name: after a crash there is a whole entry or none."""
    for path in folder.iterdir():
        with suppress(OSError), path.open("rb") as file:
            os.fsync(file.fileno())
