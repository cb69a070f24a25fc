"""[I/O] Writes and reads result files: `run.json`, `compare.json`, `sweep.json`, `models.json`.

`python -m loadgen.results.files` makes their JSON Schemas anew.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from loadgen.errors import LoadgenError

from .comparefile import CompareFile
from .runfile import RunFile
from .sweepfile import ModelsFile, SweepFile

FileT = TypeVar("FileT", RunFile, CompareFile, SweepFile, ModelsFile)
SCHEMAS: Final[dict[str, type[Any]]] = {
    "run": RunFile,
    "compare": CompareFile,
    "sweep": SweepFile,
    "models": ModelsFile,
}


class RunFileError(Exception):
    """A result file that cannot be used; the text is one sentence."""


def encode(run: FileT) -> bytes:
    """Return the file's bytes: JSON that reads back as the same value.

    Raises:
        ValueError: a figure is not finite, or otherwise not as the schema has it (a mistake in the generator).
    """
    data = msgspec.json.encode(run)  # writes NaN and infinities as null, which reading back reveals
    if msgspec.json.decode(data, type=type(run)) != run:
        raise ValueError("the run does not read back as it was written")
    return data + b"\n"


def prepare_folder(folder: Path, name: str = "run.json") -> Path:
    """Make the folder, remove an earlier result of that name from it and return the path of the new one.

    An old file must not be taken for the result of a run that failed to start.

    Raises:
        LoadgenError: the folder cannot be written.
    """
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LoadgenError(f"Cannot write into {folder}: {error.strerror}.") from error
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is either whole or not there.

    Raises:
        LoadgenError: the disk is full, or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise LoadgenError(f"Cannot write {path}: {error.strerror}.") from error


def read(path: Path, kind: type[FileT]) -> FileT:
    """Read and check a result file.

    Raises:
        RunFileError: missing, unreadable, not JSON, or not of this shape and version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunFileError(f"Cannot read {path}: {error.strerror}.") from error
    if not data.strip():
        raise RunFileError(f"{path} is empty.")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        name = next(name for name, one in SCHEMAS.items() if one is kind)
        raise RunFileError(f"{path} is not a {name} file of version 1: {error}.") from error


def schema_text(name: str = "run") -> str:
    """Return the JSON Schema of a file (draft 2020-12) as `NAME.schema.json` holds it."""
    found = _cleaned(msgspec.json.schema(SCHEMAS[name]))
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _cleaned(node: Any) -> Any:
    """Take the indentation out of descriptions: they are docstrings, which Python itself unindents from 3.13 on."""
    if isinstance(node, dict):
        return {
            key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else _cleaned(value)
            for key, value in node.items()
        }
    return [_cleaned(value) for value in node] if isinstance(node, list) else node


if __name__ == "__main__":
    for schema_name in SCHEMAS:
        Path(__file__).with_name(f"{schema_name}.schema.json").write_text(schema_text(schema_name))
