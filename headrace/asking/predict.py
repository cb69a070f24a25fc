"""`headrace predict`: send one file to a model, and show its answer [I/O]."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final
from urllib.parse import urlencode

import click

from headrace.exit_codes import EXIT_USAGE
from headrace.output import print_json, print_table
from headrace.redis.access import end
from headrace.table import printable
from shared import files
from shared.files import FileRefused

from .content_types import JSON, OCTET_STREAM, PLAIN, content_type
from .front_end import FrontEnd, FrontEndError, path_of

MOST_BYTES: Final = 256 << 20
"""Of a file that is read whole before it is sent; front ends take 16 MiB unless they are set otherwise."""

STANDARD_INPUT: Final = "-"
MOST_VALUES: Final = 8
"""Numbers of a tensor that the table shows."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        source: name of a file, ``-`` for standard input.
        given_type: content type of the file; None to find it out.
        top_k: classes that a classifier returns; None for the model's own number.
        timeout_s: how long the answer is worth waiting for; None leaves it to the front end.
        request_id: the client's own id, None for none.
    """

    model: str
    source: str
    given_type: str | None
    top_k: int | None
    timeout_s: float | None
    request_id: str | None

    def query(self) -> str:
        """Return the query of the address, with its question mark."""
        timeout_ms = None if self.timeout_s is None else max(1, round(self.timeout_s * 1000))
        found = {"top_k": self.top_k, "timeout_ms": timeout_ms, "id": self.request_id}
        text = urlencode({name: value for name, value in found.items() if value is not None})
        return f"?{text}" if text else ""


def run(front_end: FrontEnd, options: Options, as_json: bool) -> int:
    """Carry out the command and return its exit code."""
    try:
        body = _read(options.source, sys.stdin.buffer)
        sent_as = options.given_type or _fitting(front_end, options, content_type(options.source, body))
        headers = {"Content-Type": sent_as, "Accept": JSON}
        answer = front_end.json(
            "POST", path_of(options.model, f"/predict{options.query()}"), body=body, headers=headers
        )
    except FileRefused as error:
        end(f"{_shown(options.source)} cannot be sent: {error}.", EXIT_USAGE)
    except FrontEndError as error:
        told = front_end.with_nearest(error, options.model)
        end(str(told), told.exit_code)
    if as_json:
        print_json(answer)
    else:
        show(answer)
    return 0


def _read(source: str, standard_input: BinaryIO) -> bytes:
    if source != STANDARD_INPUT:
        return files.read(source, MOST_BYTES)
    body = standard_input.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise FileRefused(f"it is larger than {MOST_BYTES >> 20} MiB")
    return body


def _fitting(front_end: FrontEnd, options: Options, guessed: str) -> str:
    """Return what the model takes a text as: ``echo`` takes bytes only. Every model takes JSON."""
    if guessed != PLAIN:
        return guessed
    card = front_end.json("GET", path_of(options.model))
    taken = card.get("content_types", ()) if isinstance(card, Mapping) else ()
    return next((one for one in (PLAIN, OCTET_STREAM) if one in taken), guessed)


def _shown(source: str) -> str:
    return "Standard input" if source == STANDARD_INPUT else files.shown(source)


def show(answer: Any) -> None:
    """Print an answer as a table; one whose form is none of ours as JSON."""
    rows = _predictions(answer) or _outputs(answer)
    if rows is None:
        print_json(answer)
        return
    print_table(*rows)
    for warning in _list(answer, "warnings"):
        click.echo(f"headrace: {printable(str(warning))}", err=True)


Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def _list(answer: Any, name: str) -> list[Any]:
    found = answer.get(name) if isinstance(answer, Mapping) else None
    return found if isinstance(found, list) else []


def _predictions(answer: Any) -> Rows | None:
    found = [one for one in _list(answer, "predictions") if isinstance(one, Mapping)]
    if not found or any("label" not in one or "score" not in one for one in found):
        return None
    head: tuple[str, ...] = ("LABEL", "SCORE", "INDEX")
    rows = [(str(one["label"]), _number(one["score"]), str(one.get("index", "-"))) for one in found]
    if any("row" in one for one in found):
        return ("ROW", *head), [(str(one.get("row", "-")), *row) for one, row in zip(found, rows, strict=True)]
    return head, list(rows)


def _outputs(answer: Any) -> Rows | None:
    found = [one for one in _list(answer, "outputs") if isinstance(one, Mapping)]
    if not found or any(not isinstance(one.get("data"), list) for one in found):
        return None
    rows = [
        (
            str(one.get("name", "-")),
            str(one.get("datatype", "-")),
            " x ".join(map(str, one["shape"])) if isinstance(one.get("shape"), list) else "-",
            _values(one["data"]),
        )
        for one in found
    ]
    return ("OUTPUT", "DATATYPE", "SHAPE", "DATA"), list(rows)


def _values(data: list[Any]) -> str:
    shown = " ".join(_number(value) for value in data[:MOST_VALUES])
    return f"{shown} …" if len(data) > MOST_VALUES else shown


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:200]
