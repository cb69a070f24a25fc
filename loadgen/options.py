"""Kinds of options that several commands share."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from shared.durations import parse_duration_s

Command = TypeVar("Command", bound=Callable[..., Any])
_SETTING = re.compile(r"HEADRACE_[A-Z0-9_]+")


class Duration(click.ParamType[float]):
    """`30s`, `1m30s`, `500ms` or a number of seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
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


class JsonObject(click.ParamType[dict[str, Any]]):
    """A JSON object."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Return it."""
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            self.fail(f"{value!r} is not a JSON object.", param, ctx)
        return found


RATE, RATES, DURATION, NAMES, SETTING = Rate(), Rates(), Duration(), Names(), Setting()
JSON_OBJECT = JsonObject()
PATH = click.Path(path_type=Path)
FILES = click.Path(path_type=Path, exists=True)

_PAYLOADS = (
    click.option("--payload", "payloads", type=FILES, multiple=True, help="File or folder; repeatable."),
    click.option("--content-type", help="Of all payloads. Default: from each file's suffix, else octet-stream."),
    click.option("--accept", type=click.Choice(["json", "msgpack"]), default="json", help="Form of the answers."),
)
_WORKLOAD = (
    click.option(
        "--workload", "kind", type=click.Choice(["chat", "embed"]), help="Make texts from a seed, and send those."
    ),
    click.option(
        "--api", type=click.Choice(["openai", "native"]), help="Of embed. Default: openai; native on a stream."
    ),
    click.option("--input-words", type=float, help="Median length of a text. Default: 64."),
    click.option("--input-sigma", type=float, help="Deviation of its logarithm. Default: 0.6."),
    click.option("--most-input-words", type=int, help="Where lengths are cut. Default: 256."),
    click.option("--most-texts", type=int, help="Of embed: a request has 1 to so many texts. Default: 1."),
    click.option("--output-tokens", type=float, help="Of chat: median of max_tokens. Default: 32."),
    click.option("--output-sigma", type=float, help="Deviation of its logarithm. Default: 0.6."),
    click.option("--most-output-tokens", type=int, help="Where it is cut. Default: 128."),
    click.option("--distinct", type=int, help="How many different requests are made. Default: 256."),
    click.option("--ttft-objective-ms", type=float, help="Goodput: latest first token. Default: 500."),
    click.option("--itl-objective-ms", type=float, help="Goodput: largest mean time between tokens. Default: 100."),
    click.option(
        "--extra-body", type=JSON_OBJECT, help='Further members of each request, such as {"ignore_eos": true}.'
    ),
)
_ARRIVALS = (
    click.option(
        "--arrivals", type=click.Choice(["poisson", "constant", "gamma"]), default="poisson", show_default=True
    ),
    click.option("--burstiness", type=float, default=1.0, help="Of gamma arrivals: deviation of a gap over its mean."),
    click.option("--seed", type=int, default=1, show_default=True, help="Of the arrivals and of the payloads' order."),
    click.option("--timeout", "timeout_s", type=DURATION, help="Per request. Default: 10s; of chat 2m."),
    click.option("--max-in-flight", type=click.IntRange(1), default=512, show_default=True, help="Beyond it: dropped."),
    click.option("--connections", type=click.IntRange(1), help="Most connections at a time. Default: --max-in-flight."),
    click.option("--key-env", help="Variable that holds the key to send. Default: HEADRACE_API_KEY."),
)


def load_options(command: Command) -> Command:
    """Add the options that say what is sent and how it arrives; what was given of a workload comes as one."""

    @functools.wraps(command)
    def packed(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in _WORKLOAD_NAMES}
        options["workload"] = {name: value for name, value in given.items() if value is not None}
        return command(*arguments, **options)

    found: Any = packed
    for option in reversed(_PAYLOADS + _WORKLOAD + _ARRIVALS):
        found = option(found)
    return cast(Command, found)


_WORKLOAD_NAMES = (
    "kind",
    "api",
    "input_words",
    "input_sigma",
    "most_input_words",
    "most_texts",
    "output_tokens",
    "output_sigma",
    "most_output_tokens",
    "distinct",
    "ttft_objective_ms",
    "itl_objective_ms",
    "extra_body",
)
"""Options that are members of the workload, by their names there."""
