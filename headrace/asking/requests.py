"""`headrace request`: the answer to a request by its id and where its time went, or take it back [I/O]."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from urllib.parse import quote

import click

from headrace.exit_codes import EXIT_DONE, EXIT_REFUSED, EXIT_TIMEOUT, EXIT_USAGE
from headrace.output import print_json
from headrace.redis.access import end
from shared.names import is_name

from .front_end import FrontEnd, FrontEndError, no_such_model, path_of
from .picture import BARS, lines
from .predict import show

UNKNOWN = "unknown_request"


def get(front_end: FrontEnd, request_id: str, model: str | None, wait_s: int, as_json: bool) -> int:
    """Show the answer to a request, or how it stands, and where its time went; returns the exit code."""
    query = f"?wait={wait_s}" if wait_s else ""
    try:
        name, answer = _each(front_end, "GET", request_id, model, query)
    except _NotThere as not_there:
        explained = _explained(front_end, request_id, not_there.names)
        if explained is None:
            end(not_there.sentence, EXIT_REFUSED)
        _show_explained(explained, as_json, None)
        return EXIT_DONE
    except FrontEndError as error:  # the answer is an error, most likely
        explained = _explained(front_end, request_id, [model] if model else _names(front_end))
        if explained is not None and not as_json:
            _show_explained(explained, as_json, None)
        end(str(error), error.exit_code)
    stands = answer.get("status") if isinstance(answer, dict) else None
    is_open = stands in ("queued", "running", "claimed")
    explained = None if is_open else _explained(front_end, request_id, [name])
    if as_json:
        _show_explained(explained, as_json, answer)
    elif is_open:
        click.echo(f"headrace: {request_id} of {name} is {stands}.")
    else:
        show(answer)
        if explained is not None:
            click.echo()
            _show_explained(explained, as_json, answer)
    return EXIT_TIMEOUT if is_open and wait_s else EXIT_DONE


def _show_explained(explained: object, as_json: bool, answer: object) -> None:
    """Print the document, or a picture of each story in it; an answer gets the document as one more member."""
    if as_json:
        document = dict(answer) if isinstance(answer, dict) else {}
        print_json(document if explained is None else {**document, "explained": explained})
        return
    found = explained.get("found") if isinstance(explained, dict) else None
    bar = BARS[0] if _can_print(BARS[0]) else BARS[1]
    for story in found if isinstance(found, list) else ():
        for line in lines(story, bar):
            click.echo(line)


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeError:
        return False
    return True


def _explained(front_end: FrontEnd, request_id: str, names: Sequence[str]) -> object:
    """Return what the front end knows of where a request's time went; None for nothing."""
    for name in names:
        try:
            return front_end.json("GET", path_of(name, f"/requests/{quote(request_id)}/explain"))
        except FrontEndError:
            continue
    return None


def _names(front_end: FrontEnd) -> Sequence[str]:
    try:
        return front_end.models()
    except FrontEndError:
        return ()


def cancel(front_end: FrontEnd, request_id: str, model: str | None, as_json: bool) -> int:
    """Take a request back; returns the exit code."""
    try:
        name, answer = _each(front_end, "DELETE", request_id, model, "")
    except _NotThere as not_there:
        end(not_there.sentence, EXIT_REFUSED)
    except FrontEndError as error:
        end(str(error), error.exit_code)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"headrace: {request_id} of {name} is cancelled.")
    return EXIT_DONE


class _NotThere(Exception):
    """No model has such a request, of those in ``names``."""

    def __init__(self, request_id: str, model: str | None, names: Sequence[str]) -> None:
        where = "any model" if model is None else model
        self.names = names
        self.sentence = (
            f"There is no request {request_id} of {where} here: it never came, its result is no longer kept, or it is "
            "in the lane of another API key."
        )


def _each(front_end: FrontEnd, method: str, request_id: str, model: str | None, query: str) -> tuple[str, object]:
    """Ask for the request among the one model, or among all; ids are looked for, which costs nothing that runs.

    Raises:
        _NotThere: nobody knows it.
        FrontEndError: the front end refuses, or nobody answers.
    """
    if not is_name(request_id):
        end("An id is 1 to 64 letters, digits, '_' or '-'.", EXIT_USAGE)
    known = front_end.models()
    if model is not None and model not in known:
        end(no_such_model(model, known), EXIT_USAGE)
    names = known if model is None else [model]
    for name in names:
        try:
            path = path_of(name, f"/requests/{quote(request_id)}{query}")
            return name, front_end.json(method, path)
        except FrontEndError as error:
            if error.code != UNKNOWN:
                raise
    raise _NotThere(request_id, model, names)
