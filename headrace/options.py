"""Options that several of the operator's commands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
wait_option = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0, max=3600),
    default=0.0,
    show_default=True,
    help="Seconds to wait for a server that does not answer yet.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
lane_option = click.option("--lane", default="default", show_default=True, help="The lane.")
all_option = click.option("--all", "every", is_flag=True, help="All of them.")


def some_entries(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what it needs to act on entries of a model's lane: some of them, or all."""
    entries, model = click.argument("entries", nargs=-1), click.argument("model")
    for option in (as_json_option, yes_option, all_option, lane_option, entries, model):
        command = option(command)
    return command
