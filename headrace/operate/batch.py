"""`headrace batch`: upload a file, wait for the end, fetch the results [I/O]. For people; programs use the REST API.

A connection that breaks while results are fetched is opened again, and goes on after the last whole line.
"""

from __future__ import annotations

import http.client
import json
import mimetypes
import os
import ssl
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlencode, urlsplit

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_REFUSED: Final = 3

LOOK_S: Final = 0.5
TRIES: Final = 10
TIMEOUT_S: Final = 60.0
PIECE_BYTES: Final = 1 << 16
_TYPES: Final = {".jsonl": "application/jsonl", ".ndjson": "application/jsonl", ".zip": "application/zip"}
_ENDED: Final = ("completed", "cancelled", "failed")


class BatchError(Exception):
    """It could not be done; one sentence."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        source: JSON Lines, a zip, or a folder of photographs.
        url: of the front end.
        key: API key, empty for none.
        output: where the results go; None for standard output.
    """

    model: str
    source: Path
    url: str
    key: str
    output: Path | None
    keep: str
    top_k: int | None
    order: str


class FrontEnd:
    """One front end, asked on a connection for each question."""

    def __init__(self, url: str, key: str) -> None:
        self._address, self._key = urlsplit(url), key
        if self._address.scheme not in ("http", "https") or not self._address.hostname:
            raise BatchError(f"--url is an address such as http://127.0.0.1:8000, not {url!r}.")

    def ask(
        self, method: str, path: str, body: IO[bytes] | None = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Ask; the caller reads the answer.

        Raises:
            BatchError: the front end refuses, or nobody answers.
        """
        host, port = self._address.hostname or "", self._address.port
        connection: http.client.HTTPConnection
        if self._address.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        given = dict(headers or {})
        if self._key:
            given["Authorization"] = f"Bearer {self._key}"
        if body is not None:
            given["Content-Length"] = str(os.fstat(body.fileno()).st_size)
        try:
            connection.request(method, self._address.path.rstrip("/") + path, body, given)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise BatchError(f"The front end does not answer: {error}.") from None
        if answer.status >= 400:
            raise BatchError(_reason(answer.status, answer.read()))
        return answer

    def json(self, method: str, path: str, **more: Any) -> Any:
        """Ask, and read the answer as JSON."""
        try:
            return json.loads(self.ask(method, path, **more).read())
        except (ValueError, OSError, http.client.HTTPException) as error:
            raise BatchError(f"The answer cannot be read: {error}.") from None


def _reason(status: int, body: bytes) -> str:
    try:
        error = json.loads(body)["error"]
        return f"{error['message']} ({status} {error['code']})"
    except (ValueError, KeyError, TypeError):
        return f"The front end answers with status {status}."


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
        raise BatchError(f"{source} is no .jsonl, no .zip and no folder.")
    try:
        with source.open("rb") as file:
            yield file, kind
    except OSError as error:
        raise BatchError(f"{source} cannot be read: {error.strerror}.") from None


def run(options: Options, say: Callable[[str], None]) -> int:
    """Do it all; returns the exit code."""
    try:
        return _run(options, say)
    except BatchError as error:
        say(f"headrace batch: {error}")
        return EXIT_REFUSED


def _run(options: Options, say: Callable[[str], None]) -> int:
    front_end = FrontEnd(options.url, options.key)
    query = "" if options.top_k is None else "?" + urlencode({"top_k": options.top_k})
    with _opened(options.source) as (file, kind):
        headers = {"Content-Type": kind, "Headrace-Keep": options.keep}
        info = front_end.json("POST", f"/v1/models/{options.model}/batches{query}", body=file, headers=headers)
    path = f"/v1/models/{options.model}/batches/{info['id']}"
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
        except BatchError:  # a front end may restart while the batch runs
            failures += 1
            if failures == TRIES:
                raise
            continue
        line = f"{info['percent']:.0f}%, {info['rate_per_s']:,.0f} items/s {info.get('reason', '')}".rstrip()
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
        except (OSError, http.client.HTTPException, BatchError):
            pass
        failures += 1
        if failures == TRIES:
            raise BatchError(f"The results cannot be read any further than line {offset}.")
        time.sleep(LOOK_S)
