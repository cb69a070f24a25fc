"""`headrace request`: the answer to a request by its id, or take it back [I/O]."""

from __future__ import annotations

from urllib.parse import quote

import click

from headrace.exit_codes import EXIT_DONE, EXIT_REFUSED, EXIT_TIMEOUT, EXIT_USAGE
from headrace.output import print_json
from headrace.redis.access import end
from shared.names import is_name

from .front_end import FrontEnd, FrontEndError, no_such_model, path_of
from .predict import show

UNKNOWN = "unknown_request"


def get(front_end: FrontEnd, request_id: str, model: str | None, wait_s: int, as_json: bool) -> int:
    """Show the answer to a request, or how it stands; returns the exit code."""
    query = f"?wait={wait_s}" if wait_s else ""
    found = _each(front_end, "GET", request_id, model, query)
    answer = found[1]
    stands = answer.get("status") if isinstance(answer, dict) else None
    if as_json:
        print_json(answer)
    elif stands in ("queued", "running", "claimed"):
        click.echo(f"headrace: {request_id} of {found[0]} is {stands}.")
    else:
        show(answer)
    return EXIT_TIMEOUT if stands in ("queued", "running", "claimed") and wait_s else EXIT_DONE


def cancel(front_end: FrontEnd, request_id: str, model: str | None, as_json: bool) -> int:
    """Take a request back; returns the exit code."""
    name, answer = _each(front_end, "DELETE", request_id, model, "")
    if as_json:
        print_json(answer)
    else:
        click.echo(f"headrace: {request_id} of {name} is cancelled.")
    return EXIT_DONE


def _each(front_end: FrontEnd, method: str, request_id: str, model: str | None, query: str) -> tuple[str, object]:
    """Ask for the request among the one model, or among all; ids are looked for, which costs nothing that runs."""
    if not is_name(request_id):
        end("An id is 1 to 64 letters, digits, '_' or '-'.", EXIT_USAGE)
    try:
        names = front_end.models()
        if model is not None and model not in names:
            end(no_such_model(model, names), EXIT_USAGE)
        for name in names if model is None else [model]:
            try:
                path = path_of(name, f"/requests/{quote(request_id)}{query}")
                return name, front_end.json(method, path)
            except FrontEndError as error:
                if error.code != UNKNOWN:
                    raise
    except FrontEndError as error:
        end(str(error), error.exit_code)
    where = "any model" if model is None else model
    return end(
        f"There is no request {request_id} of {where} here: it never came, its result is no longer kept, or it is in "
        "the lane of another API key.",
        EXIT_REFUSED,
    )
