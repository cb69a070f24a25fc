"""The file that says where a stack listens, once it answers [I/O]."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from shared import files
from shared.files import FileRefused
from shared.settings import SettingsError

_MOST_BYTES: Final = 4096


class ReadyFile:
    """Holds the front end's address and a line's end, from when a model answers until the stack ends.

    Args:
        path: of the file. One that a stack left behind that was killed is removed at once.

    Raises:
        SettingsError: there is something else, or there is no such folder, or it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._is_written = path, False
        shown = files.shown(path)
        try:
            if path.is_symlink() or path.exists():
                if not files.read(path, _MOST_BYTES).startswith((b"http://", b"https://")):
                    raise FileRefused("it is no file of ours")
                path.unlink()
            if not path.parent.is_dir():
                raise FileRefused(f"there is no folder {files.shown(path.parent)}")
            handle, trial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.close(handle)
            os.unlink(trial)
        except FileRefused as error:
            raise SettingsError(f"--ready-file: {shown} cannot be used: {error}.") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise SettingsError(f"--ready-file: {shown} cannot be used: {why}.") from None

    def write(self, url: str) -> None:
        """Write it in one step, once: a reader sees no half of it.

        Raises:
            OSError: it cannot be written.
        """
        if self._is_written:
            return
        handle, fresh = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        with os.fdopen(handle, "w") as file:
            file.write(f"{url}\n")
        os.chmod(fresh, 0o644)
        os.replace(fresh, self._path)
        self._is_written = True

    def remove(self) -> None:
        """Remove it, if it was written."""
        if self._is_written:
            self._path.unlink(missing_ok=True)
