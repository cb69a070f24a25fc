"""Showing something again and again until Ctrl-C [I/O]."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click

from headrace.exit_codes import EXIT_DONE
from shared.redis.advice import told
from shared.redis.client import RedisError

_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def run(show: Callable[[], object], interval_s: float, as_json: bool) -> int:
    """Call ``show`` every ``interval_s``; returns the exit code once somebody presses Ctrl-C.

    An outage of Redis is told, and does not end it. On a terminal each view takes the place of the last one.
    """
    is_first = True
    try:
        while True:
            if sys.stdout.isatty():
                click.echo(_CLEAR, nl=False)
            elif not is_first and not as_json:
                click.echo()
            is_first = False
            try:
                show()
            except RedisError as error:
                click.echo(f"headrace: Redis is away: {told(error)}", err=True)
            sys.stdout.flush()
            time.sleep(interval_s)
    except KeyboardInterrupt:
        return EXIT_DONE
