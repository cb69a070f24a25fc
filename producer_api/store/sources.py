"""Where the front end fetches bodies from [I/O]: allowed origins, allowed folders, allowed buckets. None by default.

A body is read once, in pieces, and what was read is what is used: nothing is checked first and read afterwards.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Final, NoReturn

from producer_api.net.addresses import AddressRefused, parse
from producer_api.net.egress import BadAnswer, Egress, Limits, Unreachable
from shared.wire.outcomes import REFERENCE_FAILED, REFERENCE_REFUSED, RequestError

PIECE_BYTES: Final = 1 << 20
URL_LIMITS: Final = Limits(total_s=60.0)
ANY: Final = "*"


def refused(message: str, kind: str) -> RequestError:
    """Make the error for a reference that this front end does not follow."""
    return RequestError(REFERENCE_REFUSED, message, field=f"reference.{kind}")


def failed(message: str, kind: str) -> RequestError:
    """Make the error for a body that could not be fetched."""
    return RequestError(REFERENCE_FAILED, message, field=f"reference.{kind}")


class UrlSource:
    """Bodies at URLs of allowed origins.

    Args:
        origins: such as ``https://photos.example.org``; ``*`` for all.
    """

    def __init__(self, egress: Egress, origins: Sequence[str]) -> None:
        self._egress, self._origins = egress, frozenset(origins)

    async def pieces(self, url: str, most_bytes: int) -> AsyncIterator[bytes]:
        """Give the body of a URL as it comes; redirects are not followed.

        Raises:
            RequestError: ``REFERENCE_REFUSED``, ``REFERENCE_FAILED``.
        """
        try:
            target = parse(url)
            if ANY not in self._origins and target.origin not in self._origins:
                raise refused(f"Bodies are not fetched from {target.origin} here (HEADRACE_REFERENCE_ORIGINS).", "url")
            async with self._egress.request("GET", target, {"Accept": "*/*"}, limits=URL_LIMITS) as answer:
                if answer.status != 200:
                    raise failed(f"{target.host} answered {answer.status}; only 200 is a body.", "url")
                async for piece in answer.pieces(most_bytes):
                    yield piece
        except AddressRefused as error:
            raise refused(f"The URL is not fetched: {error}.", "url") from None
        except (Unreachable, BadAnswer) as error:
            raise failed(f"The body could not be fetched: {error}.", "url") from None


class FileSource:
    """Bodies in files below allowed folders of the front end's machine.

    Args:
        folders: absolute, without symbolic links to follow below them.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = [PurePosixPath(folder) for folder in folders]

    async def pieces(self, path: str, most_bytes: int) -> AsyncIterator[bytes]:
        """Give a file piece by piece.

        Raises:
            RequestError: ``REFERENCE_REFUSED``, ``REFERENCE_FAILED``.
        """
        folder, names = self._place(path)
        file = await asyncio.to_thread(_opened, folder, names)
        try:
            before = os.fstat(file)
            if before.st_size > most_bytes:
                raise failed(f"The file has {before.st_size} bytes, and at most {most_bytes} are read.", "file")
            left = before.st_size
            while left:
                piece = await asyncio.to_thread(os.read, file, min(PIECE_BYTES, left))
                if not piece:
                    _changed()
                left -= len(piece)
                yield piece
            after = os.fstat(file)
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                _changed()
        except OSError as error:
            raise failed(f"The file cannot be read: {error.strerror}.", "file") from None
        finally:
            os.close(file)

    def _place(self, path: str) -> tuple[PurePosixPath, Sequence[str]]:
        """Return the allowed folder of a path, and the names that lead from there to it."""
        whole = PurePosixPath(path)
        if whole.is_absolute() and ".." not in whole.parts and path.isprintable():
            for folder in self._folders:
                if whole.is_relative_to(folder) and whole != folder:
                    return folder, whole.relative_to(folder).parts
        raise refused("Files are not read from there (HEADRACE_REFERENCE_FOLDERS).", "file")


def _opened(folder: PurePosixPath, names: Sequence[str]) -> int:
    """Open a regular file, following no symbolic link below the folder."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    opened = -1
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        for name in names[:-1]:
            inner = os.open(name, flags | os.O_DIRECTORY, dir_fd=opened)
            os.close(opened)
            opened = inner
        file = os.open(names[-1], flags, dir_fd=opened)
    except OSError as error:
        # The same for what is a link, what may not be read and what is not there: it tells nothing of this machine.
        raise failed("There is no such regular file, or it cannot be read.", "file") from error
    finally:
        if opened >= 0:
            os.close(opened)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        with suppress(OSError):
            os.close(file)
        raise failed("There is no such regular file, or it cannot be read.", "file")
    return file


def _changed() -> NoReturn:
    raise failed("The file changed while it was read.", "file")
