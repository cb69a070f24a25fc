"""Commands that ask a front end on the command line: `predict`, `request`, `batch`, `top`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .exit_codes import EXIT_USAGE
from .options import Duration, as_json_option, duration_option, url_option

if TYPE_CHECKING:
    from .asking.front_end import FrontEnd

_MODEL_OPTION = click.option("--model", help="Look at this model only; otherwise at all of them.")


@click.command()
@click.argument("model")
@click.argument("source", metavar="FILE")
@url_option
@click.option("--content-type", "given_type", help="Of FILE; otherwise found by its first bytes and its name.")
@click.option("--top-k", type=click.IntRange(1, 1000), help="Classes that a classifier returns.")
@click.option("--id", "request_id", help="Your own id for the request, which `request get` finds.")
@click.option("--timeout", "timeout_s", type=Duration(0.001, 3600), help="How long the answer is worth waiting for.")
@as_json_option
def predict(
    model: str,
    source: str,
    url: str | None,
    given_type: str | None,
    top_k: int | None,
    request_id: str | None,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Send FILE to MODEL and show the answer; `-` reads standard input.

    HEADRACE_API_KEY is the API key, where one is needed.

    Exit codes: 0 done, 1 no front end answers, 2 usage, FILE or MODEL is not there, 3 no answer in time, 4 refused.
    """
    from .asking import predict as command

    options = command.Options(model, source, given_type, top_k, timeout_s, request_id)
    sys.exit(command.run(_front_end(url, 60.0 if timeout_s is None else timeout_s + 5), options, as_json))


@click.group()
def request() -> None:
    """Requests by their id: the answer to one, or taking one back."""


@request.command("get")
@click.argument("request_id", metavar="ID")
@_MODEL_OPTION
@duration_option("--wait", "wait_s", 0.0, "How long to wait for the end of a request that is answered later.", 0, 60)
@url_option
@as_json_option
def get_request(request_id: str, model: str | None, wait_s: float, url: str | None, as_json: bool) -> None:
    """Show the answer to request ID as long as it is kept, or how it stands; and where its time went.

    With --json it is the answer with one more member, `explained`, as docs/rest.md describes it.

    Exit codes: 0 done, 1 no front end answers, 2 usage or unknown model, 3 no end within --wait, 4 there is no such
    request, or it ended with an error.
    """
    from .asking import requests as command

    sys.exit(command.get(_front_end(url), request_id, model, round(wait_s), as_json))


@request.command("cancel")
@click.argument("request_id", metavar="ID")
@_MODEL_OPTION
@url_option
@as_json_option
def cancel_request(request_id: str, model: str | None, url: str | None, as_json: bool) -> None:
    """Take request ID back; one that runs already may still run to its end.

    Exit codes: 0 done, 1 no front end answers, 2 usage or unknown model, 3 no answer in time, 4 there is no such
    request, or it has an answer already.
    """
    from .asking import requests as command

    sys.exit(command.cancel(_front_end(url), request_id, model, as_json))


@click.command()
@click.argument("model")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@url_option
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the results go.")
@duration_option("--keep", "keep_s", 86_400.0, "How long the results are kept.", 1, 7 * 86_400)
@click.option("--top-k", type=click.IntRange(1), help="Classes to return for each photograph.")
@click.option("--order", type=click.Choice(["input", "completion"]), default="input", show_default=True)
@click.option("--lane", help="Where the items wait; a batch lane lets them have only what others leave.")
@click.option(
    "--deadline", "deadline_s", type=Duration(1, 7 * 86_400), help="By when all items shall have ended, from now on."
)
def batch(
    model: str,
    source: Path,
    url: str | None,
    output: Path | None,
    keep_s: float,
    top_k: int | None,
    order: str,
    lane: str | None,
    deadline_s: float | None,
) -> None:
    """Run all items of FILE through MODEL, and fetch the results: JSON Lines, a zip or a folder of photographs.

    HEADRACE_API_KEY is the API key, where one is needed. Results go to standard output unless --output is there.

    Exit codes: 0 every item has an answer, 1 some have errors, the batch did not complete or no front end answers,
    2 usage or unknown model, 3 no answer in time, 4 refused.
    """
    from .asking import batch as command

    deadline = None if deadline_s is None else round(deadline_s)
    options = command.Options(model, source, output, round(keep_s), top_k, order, lane, deadline)
    sys.exit(command.run(_front_end(url), options, lambda line: click.echo(line, err=True)))


@click.command()
@click.option("--model", help="Show this model in detail; otherwise the first, and Tab shows the next.")
@click.option("--once", is_flag=True, help="Show it once and end, as where the output is no terminal.")
@url_option
@as_json_option
def top(model: str | None, once: bool, url: str | None, as_json: bool) -> None:
    """Show how models, workers and lanes stand, all the time: what the console shows, in a terminal.

    q or Ctrl-C ends it. HEADRACE_API_KEY is the API key, where one is needed; its role on the console must be read or
    operate. --json prints the document once.

    Exit codes: 0 done, 1 no front end answers, 2 usage or unknown model, 3 no answer in time, 4 refused.
    """
    from .top import top as command
    from .top.listening import SILENCE_S

    sys.exit(command.run(_front_end(url, SILENCE_S), model, once=once, as_json=as_json))


def _front_end(url: str | None, timeout_s: float = 60.0) -> FrontEnd:
    """Return the front end at an address, else that of the settings; ends the process where there is none."""
    from shared.settings import SettingsError

    from .asking.front_end import FrontEndError, opened

    try:
        return opened(url, os.environ, timeout_s)
    except (FrontEndError, SettingsError) as error:
        click.echo(f"headrace: {error}", err=True)
        sys.exit(EXIT_USAGE)
