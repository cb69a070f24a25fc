"""`headrace dlq` on the command line."""

from __future__ import annotations

import os
import sys

import click

from .options import as_json_option, lane_option, some_entries


@click.group()
def dlq() -> None:
    """Dead letters: requests that were given up, with the reason and the original message."""


@dlq.command("list")
@click.argument("model")
@lane_option
@click.option("--count", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Show the newest.")
@as_json_option
def list_letters(model: str, lane: str, count: int, as_json: bool) -> None:
    """List the newest dead letters of MODEL."""
    from .operate import dlq as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.show_list(client, model, lane, count, as_json))


@dlq.command("show")
@click.argument("model")
@click.argument("entry")
@lane_option
@as_json_option
def show_letter(model: str, entry: str, lane: str, as_json: bool) -> None:
    """Show one dead letter of MODEL, payloads by their size."""
    from .operate import dlq as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.show_one(client, model, lane, entry, as_json))


@dlq.command("requeue")
@some_entries
def requeue_letters(model: str, entries: tuple[str, ...], lane: str, every: bool, yes: bool, as_json: bool) -> None:
    """Put dead letters of MODEL back into their lane, with a fresh deadline."""
    from .operate import dlq as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.requeue(client, model, lane, entries, every, yes, as_json))


@dlq.command("drop")
@some_entries
def drop_letters(model: str, entries: tuple[str, ...], lane: str, every: bool, yes: bool, as_json: bool) -> None:
    """Delete dead letters of MODEL for good."""
    from .operate import dlq as command
    from .redis.access import connected

    with connected(os.environ) as client:
        sys.exit(command.drop(client, model, lane, entries, every, yes, as_json))
