"""What operators' commands print: tables with colours on a terminal, JSON for programs, and questions [I/O]."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import click

from .exit_codes import EXIT_USAGE
from .redis.access import end
from .table import table


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str | None] = ()) -> None:
    """Print a table; row *i* in ``colours[i]`` on a terminal, unless ``NO_COLOR`` is set."""
    head, *lines = table(header, rows).split("\n")
    _print(head, bold=True)
    for index, line in enumerate(lines):
        _print(line, colour=colours[index] if index < len(colours) else None)


def print_json(value: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=1))


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation before something that cannot be undone, and end the process if the answer is no.

    Without a terminal it needs ``--yes``.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        end(f"{question} Add --yes: there is no terminal to confirm on.", EXIT_USAGE)
    if not click.confirm(question, err=True):
        end("Nothing was changed.", EXIT_USAGE)


def _print(line: str, colour: str | None = None, bold: bool = False) -> None:
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        line = click.style(line, fg=colour, bold=bold)
    click.echo(line)
