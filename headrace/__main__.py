"""``python -m headrace``: the command line."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from shared.settings import Settings, SettingsError

from .up import EXIT_USAGE
from .up import up as run_up

EXIT_FAILED = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Start and inspect a Headrace stack. Settings are HEADRACE_ environment variables; see docs/settings.md."""


@main.command()
def up() -> None:
    """Start Redis, the consumers and the front end, and keep them running until Ctrl-C."""
    sys.exit(run_up(os.environ))


@main.group()
def functions() -> None:
    """Look after the Redis functions that both sides call."""


@functions.command()
def load() -> None:
    """Load the functions into the server at HEADRACE_REDIS_URL, replacing older ones."""
    # Imported here: only this command needs a Redis client.
    from shared import functions as library
    from shared.redis import ClientError, connect

    try:
        settings = Settings.from_env(os.environ)
        if settings.redis_url is None:
            raise SettingsError("HEADRACE_REDIS_URL is not set, so there is no server to load the functions into.")
    except SettingsError as error:
        _end(str(error), EXIT_USAGE)
    try:
        with connect(settings.redis_url) as client:
            library.load(client)
    except ClientError as error:
        _end(f"The functions could not be loaded: {error}", EXIT_FAILED)
    click.echo("headrace: the functions are loaded.")


def _end(sentence: str, code: int) -> NoReturn:
    click.echo(f"headrace: {sentence}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main(prog_name="python -m headrace")
