"""Kinds of options that several commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
_SETTING = re.compile(r"HEADRACE_[A-Z0-9_]+")


class Duration(click.ParamType[float]):
    """`30s`, `1m30s`, `500ms` or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        from .scenario import parse_duration_s

        if isinstance(value, float):
            return value
        try:
            return parse_duration_s(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Rate(click.ParamType[float]):
    """A number of requests per second."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it, above 0."""
        try:
            rate = float(value)
        except ValueError:
            rate = math.nan
        if not (math.isfinite(rate) and rate > 0):
            self.fail(f"{value!r} is not a number of requests per second above 0.", param, ctx)
        return rate


class Rates(click.ParamType[tuple[float, ...]]):
    """Rates separated by commas."""

    name = "rates"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Return them ascending."""
        if isinstance(value, tuple):
            return value
        found = tuple(sorted({RATE.convert(part.strip(), param, ctx) for part in value.split(",") if part.strip()}))
        if not found:
            self.fail("name at least one rate, such as 5,10,20.", param, ctx)
        return found


class Names(click.ParamType[tuple[str, ...]]):
    """Names separated by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return them in that order, each once."""
        if isinstance(value, tuple):
            return value
        found = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        if not found:
            self.fail("name at least one.", param, ctx)
        return found


class Setting(click.ParamType[tuple[str, str]]):
    """A setting of a stack that is started: `HEADRACE_MAX_BATCH=1`."""

    name = "setting"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return name and value."""
        if isinstance(value, tuple):
            return value
        name, separator, text = value.partition("=")
        if not separator or not _SETTING.fullmatch(name):
            self.fail(f"{value!r} is not a setting; write HEADRACE_NAME=VALUE.", param, ctx)
        return name, text


RATE, RATES, DURATION, NAMES, SETTING = Rate(), Rates(), Duration(), Names(), Setting()
PATH = click.Path(path_type=Path)
FILES = click.Path(path_type=Path, exists=True)

_PAYLOADS = (
    click.option("--payload", "payloads", type=FILES, multiple=True, help="File or folder; repeatable."),
    click.option("--content-type", help="Of all payloads. Default: from each file's suffix, else octet-stream."),
    click.option("--accept", type=click.Choice(["json", "msgpack"]), default="json", help="Form of the answers."),
)
_ARRIVALS = (
    click.option(
        "--arrivals", type=click.Choice(["poisson", "constant", "gamma"]), default="poisson", show_default=True
    ),
    click.option("--burstiness", type=float, default=1.0, help="Of gamma arrivals: deviation of a gap over its mean."),
    click.option("--seed", type=int, default=1, show_default=True, help="Of the arrivals and of the payloads' order."),
    click.option("--timeout", "timeout_s", type=DURATION, default="10s", show_default=True, help="Per request."),
    click.option("--max-in-flight", type=click.IntRange(1), default=512, show_default=True, help="Beyond it: dropped."),
    click.option("--connections", type=click.IntRange(1), help="Most connections at a time. Default: --max-in-flight."),
)


def load_options(command: Command) -> Command:
    """Add the options that say what is sent and how it arrives."""
    for option in reversed(_PAYLOADS + _ARRIVALS):
        command = option(command)
    return command
