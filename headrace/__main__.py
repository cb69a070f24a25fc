"""``python -m headrace``: the command line."""

from __future__ import annotations

import os
import sys

import click

from shared.process import standard_streams
from shared.process.exit_codes import WRONG_CONFIGURATION
from shared.settings import PRECISIONS, SettingsError

from .operations import COMMANDS
from .options import as_json_option, wait_option


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Start and inspect a Headrace stack. Settings are HEADRACE_ environment variables; see docs/settings.md."""


@main.command()
@click.option(
    "--model",
    "own",
    multiple=True,
    metavar="[NAME=]FILE.py:CLASS",
    help="Serve a model of your own, which needs no table in models.toml; may be repeated.",
)
def up(own: tuple[str, ...]) -> None:
    """Start Redis, the consumers and the front end, and keep them running until Ctrl-C."""
    # Imported here: the other commands need none of it.
    from .stack.own_models import with_models
    from .stack.up import up as run_up

    try:
        environment = with_models(own, os.environ)
    except SettingsError as error:
        click.echo(f"headrace: {error}", err=True)
        sys.exit(WRONG_CONFIGURATION)
    sys.exit(run_up(environment))


@main.command()
@click.argument("model")
@click.argument("value", metavar="[PRECISION|default]", required=False)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    default=300.0,
    show_default=True,
    help="Seconds to wait for every worker.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def precision(model: str, value: str | None, timeout_s: float, as_json: bool) -> None:
    """Show the precision of MODEL, or switch every worker of it, one after the other.

    No request is lost. A worker whose outputs would be too far from fp32's refuses and continues as before. Workers
    that start later use this precision too, until you set `default`: what environment and models.toml say.

    Exit codes: 0 done, 1 refused by a worker or Redis is away, 2 usage or unknown model, 3 timeout.
    """
    # Imported here: `up` needs no Redis client.
    from .operate import precision as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.run(client, model, value, timeout_s, as_json))


@main.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--again", is_flag=True, help="Search although there is a result.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Instead of that of the environment and the models file, as `headrace precision` may set it.",
)
@as_json_option
def tune(models: tuple[str, ...], again: bool, precision: str | None, as_json: bool) -> None:
    """Find the fastest runtime of each MODEL on this machine ahead of time, and store it for its consumers.

    Uses the threads that `headrace up` gives a consumer of the model here. Needs no Redis.

    Exit codes: 0 found, 1 the result cannot be stored, 2 a wrong setting or a model that has no runtime to choose,
    69 a model cannot be loaded, 130 interrupted. With several models it is that of the first one that failed.
    """
    # Imported here: `up` does not need it.
    from .operate import tune as command

    sys.exit(command.run(os.environ, models, again, precision, as_json))


@main.group()
def functions() -> None:
    """The Redis functions that front ends and consumers call."""


@functions.command()
@wait_option
@as_json_option
def load(wait_s: float, as_json: bool) -> None:
    """Load the functions into the server at HEADRACE_REDIS_URL, replacing older ones; newer ones stay."""
    # Imported here: `up` needs no Redis client.
    from shared.redis import library

    from .output import print_json
    from .redis.access import connected

    with connected(os.environ, "The functions could not be loaded", named=True, wait_s=wait_s) as client:
        is_loaded = library.load(client)
    if as_json:
        print_json({"loaded": list(library.names()) if is_loaded else []})
    elif is_loaded:
        click.echo("headrace: the functions are loaded.")
    else:
        click.echo("headrace: the server has the functions of a newer version, which stay.")


for one in COMMANDS:
    main.add_command(one)


def _run(arguments: list[str]) -> None:
    """Run a command whose output may get lost: long-running ones continue, the others report it at their end."""
    goes_on = arguments[:1] == ["up"] or arguments[:2] == ["lane", "guard"]
    standard_streams.secure(patient=not goes_on)
    try:
        main(prog_name="python -m headrace")
    except SystemExit as end:
        lost = None if goes_on else standard_streams.lost_output()
        if lost is not None and not end.code:
            click.echo(f"headrace: {lost}", err=True)
            sys.exit(1)
        raise


if __name__ == "__main__":
    _run(sys.argv[1:])
