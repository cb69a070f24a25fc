"""The Redis that a command speaks to [I/O]; whatever is wrong with it ends the command with one sentence."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from headrace.exit_codes import EXIT_FAILED, EXIT_USAGE
from headrace.table import nearest
from shared import keys
from shared.modules import COMMAND
from shared.names import is_name
from shared.redis.advice import told
from shared.redis.client import RedisError, ServerError, connect
from shared.redis.minimum_server import check_client
from shared.redis_url import shown
from shared.settings import Settings, SettingsError

_POLL_S = 0.1


@contextmanager
def connected(
    environment: Mapping[str, str],
    failed: str = "",
    *,
    named: bool = False,
    wait_s: float = 0.0,
) -> Iterator[Any]:
    """Give a client of the Redis that the settings name, else of the embedded server's.

    Args:
        failed: begins the sentence when Redis fails.
        named: HEADRACE_REDIS_URL must be set.
        wait_s: how long to wait for a server that does not answer yet.
    """
    try:
        settings = Settings.from_env(environment)
        if named and settings.redis_url is None:
            raise SettingsError("HEADRACE_REDIS_URL is not set, so there is no server to load the functions into.")
    except SettingsError as error:
        end(str(error), EXIT_USAGE)
    try:
        with connect(settings.redis_address) as client:
            _wait(client, wait_s)
            _check(client)
            yield client
    except SettingsError as error:  # a file that the address names
        end(str(error), EXIT_USAGE)
    except RedisError as error:
        if " connecting to " not in str(error):
            end(f"{failed or 'Redis refused the command'}: {told(error)}", EXIT_FAILED)
        begun = f"{failed}: n" if failed else "N"
        todo = f"; start one with `{COMMAND} up`, or set HEADRACE_REDIS_URL" if settings.redis_url is None else ""
        end(f"{begun}o Redis answers at {shown(settings.redis_address)} ({told(error)}){todo}.", EXIT_FAILED)


def _wait(client: Any, wait_s: float) -> None:
    """Return once the server answers, whatever it says, or when the time is over."""
    give_up_s = time.monotonic() + wait_s
    while time.monotonic() < give_up_s:
        try:
            client.ping()
            return
        except ServerError:
            return
        except RedisError:
            time.sleep(_POLL_S)


def _check(client: Any) -> None:
    """End the process if the server is known to be unusable."""
    try:
        check_client(client)
    except SettingsError as error:
        end(str(error), EXIT_USAGE)
    except ServerError:
        return


def check_model(client: Any, model: str) -> None:
    """End the process unless ``model`` has been served before."""
    if not is_name(model) or client.zscore(keys.MODELS, model) is None:
        known = [name.decode(errors="replace") for name in client.zrange(keys.MODELS, 0, 99)]
        there, near = ", ".join(sorted(known)) or "none", nearest(model, known)
        end(f"No consumer has ever served a model {model[:80]!r} here; there are {there}.{near}", EXIT_USAGE)


def end(sentence: str, code: int) -> NoReturn:
    """End the process with one sentence on standard error."""
    click.echo(f"headrace: {sentence}", err=True)
    sys.exit(code)
