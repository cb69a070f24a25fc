"""The Redis that a command speaks to [I/O]; whatever is wrong with it ends the command with one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from shared.redis import ClientError, connect
from shared.settings import Settings, SettingsError

EXIT_FAILED = 1
EXIT_USAGE = 2


@contextmanager
def connected(
    environment: Mapping[str, str], failed: str = "Redis did not do what was asked", *, named: bool = False
) -> Iterator[Any]:
    """Give a client of the Redis that the settings name, else of the embedded server's.

    Args:
        failed: begins the sentence when Redis fails.
        named: HEADRACE_REDIS_URL must be set.
    """
    try:
        settings = Settings.from_env(environment)
        if named and settings.redis_url is None:
            raise SettingsError("HEADRACE_REDIS_URL is not set, so there is no server to load the functions into.")
    except SettingsError as error:
        end(str(error), EXIT_USAGE)
    try:
        with connect(settings.redis_address) as client:
            yield client
    except ClientError as error:
        end(f"{failed}: {error}", EXIT_FAILED)


def end(sentence: str, code: int) -> NoReturn:
    """End the process with one sentence on standard error."""
    click.echo(f"headrace: {sentence}", err=True)
    sys.exit(code)
