"""Options that several of the operator's commands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from shared.durations import duration, parse_duration_s


class Duration(click.ParamType[float]):
    """A duration in seconds, as people write it: ``250ms``, ``5s``, ``2m``, ``1h``, or a number of seconds.

    Args:
        least_s, most_s: its bounds.
    """

    name = "duration"

    def __init__(self, least_s: float = 0.0, most_s: float = 86_400.0) -> None:
        self._least_s, self._most_s = least_s, most_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration_s(str(value), self._least_s, self._most_s)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def duration_option(
    name: str, variable: str, default_s: float | None, help: str, least_s: float = 0.0, most_s: float = 86_400.0
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an option that takes a duration, and shows its default as people write one."""
    return click.option(
        name,
        variable,
        type=Duration(least_s, most_s),
        default=None if default_s is None else duration(default_s),
        show_default=default_s is not None,
        help=help,
    )


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
wait_option = duration_option(
    "--wait", "wait_s", 0.0, "How long to wait for a server that does not answer yet.", 0, 3600
)
url_option = click.option("--url", help="Address of the front end; otherwise the one that the settings describe.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
lane_option = click.option("--lane", default="default", show_default=True, help="The lane.")
all_option = click.option("--all", "every", is_flag=True, help="All of them.")


def some_entries(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command what it needs to act on entries of a model's lane: some of them, or all."""
    entries, model = click.argument("entries", nargs=-1), click.argument("model")
    for option in (as_json_option, yes_option, all_option, lane_option, entries, model):
        command = option(command)
    return command
