"""`headrace batch`: upload a file, wait for the end, fetch the results [I/O]. For people; programs use the REST API.

A connection that breaks while results are fetched is opened again, and goes on after the last whole line.
"""

from __future__ import annotations

import http.client
import mimetypes
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlencode

from headrace.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_USAGE

from .front_end import FrontEnd, FrontEndError, path_of

LOOK_S: Final = 0.5
TRIES: Final = 10
PIECE_BYTES: Final = 1 << 16
_TYPES: Final = {".jsonl": "application/jsonl", ".ndjson": "application/jsonl", ".zip": "application/zip"}
_ENDED: Final = ("completed", "cancelled", "failed")


class BatchError(Exception):
    """It could not be done; one sentence.

    Attributes:
        exit_code: what the command ends with.
    """

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        source: JSON Lines, a zip, or a folder of photographs.
        output: where the results go; None for standard output.
        keep_s: how long the front end keeps the results.
        lane: where the items wait; None for the lane of the API key.
        deadline_s: by when all items shall have ended; None for whenever.
    """

    model: str
    source: Path
    output: Path | None
    keep_s: int
    top_k: int | None
    order: str
    lane: str | None = None
    deadline_s: int | None = None


@contextmanager
def _opened(source: Path) -> Iterator[tuple[IO[bytes], str]]:
    """Open what is uploaded, and say its type; a folder's photographs are put into a zip first."""
    if source.is_dir():
        with tempfile.TemporaryFile() as packed:
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as made:
                for path in sorted(source.rglob("*")):
                    if path.is_file() and (mimetypes.guess_type(path)[0] or "").startswith("image/"):
                        made.write(path, path.relative_to(source).as_posix())
            packed.seek(0)
            yield packed, _TYPES[".zip"]
        return
    kind = _TYPES.get(source.suffix.lower())
    if kind is None:
        raise BatchError(f"{source} is no .jsonl, no .zip and no folder.", EXIT_USAGE)
    try:
        with source.open("rb") as file:
            yield file, kind
    except OSError as error:
        raise BatchError(f"{source} cannot be read: {error.strerror}.", EXIT_USAGE) from None


def run(front_end: FrontEnd, options: Options, say: Callable[[str], None]) -> int:
    """Do it all; returns the exit code."""
    try:
        return _run(front_end, options, say)
    except FrontEndError as error:
        told = front_end.with_nearest(error, options.model)
        say(f"headrace: {told}")
        return told.exit_code
    except BatchError as error:
        say(f"headrace: {error}")
        return error.exit_code


def _run(front_end: FrontEnd, options: Options, say: Callable[[str], None]) -> int:
    query = "" if options.top_k is None else "?" + urlencode({"top_k": options.top_k})
    with _opened(options.source) as (file, kind):
        headers = {"Content-Type": kind, "Headrace-Keep": f"{options.keep_s}s"}
        if options.lane is not None:
            headers["Headrace-Lane"] = options.lane
        if options.deadline_s is not None:
            headers["Headrace-Deadline"] = f"{options.deadline_s}s"
        info = front_end.json("POST", path_of(options.model, f"/batches{query}"), body=file, headers=headers)
    path = path_of(options.model, f"/batches/{info['id']}")
    say(f"{info['id']}: {info['counts']['total']} items are uploaded.")
    try:
        info = _wait(front_end, path, info, say)
    except KeyboardInterrupt:
        say(f"It goes on without this command: GET {path}. DELETE cancels it.")
        raise
    counts = info["counts"]
    say(f"{info['state']}: {counts['done']} results, {counts['failed']} of them errors.")
    if "reason" in info:
        say(info["reason"])
    if options.output is None:
        _fetch(front_end, path, options.order, sys.stdout.buffer)
    else:
        with options.output.open("wb") as target:
            _fetch(front_end, path, options.order, target)
    return EXIT_DONE if info["state"] == "completed" and not counts["failed"] else EXIT_FAILED


def _wait(front_end: FrontEnd, path: str, info: Any, say: Callable[[str], None]) -> Any:
    shown, failures = "", 0
    while info["state"] not in _ENDED:
        time.sleep(LOOK_S)
        try:
            info, failures = front_end.json("GET", path), 0
        except FrontEndError:  # a front end may restart while the batch runs
            failures += 1
            if failures == TRIES:
                raise
            continue
        urgent = " (urgent)" if info.get("urgent") else ""
        line = f"{info['percent']:.0f}%, {info['rate_per_s']:,.0f} items/s{urgent} {info.get('reason', '')}".rstrip()
        if line != shown:
            say(line)
            shown = line
    return info


def _fetch(front_end: FrontEnd, path: str, order: str, target: IO[bytes]) -> None:
    offset, failures = 0, 0
    while True:
        try:
            answer = front_end.ask("GET", f"{path}/results?order={order}&offset={offset}")
            rest = b""
            while piece := answer.read1(PIECE_BYTES):
                whole, end, rest = (rest + piece).rpartition(b"\n")
                target.write(whole + end)
                offset += whole.count(b"\n") + len(end)
            if not rest:
                target.flush()
                return
        except (OSError, http.client.HTTPException, FrontEndError):
            pass
        failures += 1
        if failures == TRIES:
            raise BatchError(f"The results cannot be read any further than line {offset}.", EXIT_FAILED)
        time.sleep(LOOK_S)
