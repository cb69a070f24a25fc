"""The picture: from the console's state to the lines of a terminal of any size. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any, Final

from msgspec import Struct

from headrace.table import printable

from .figures import ASCII_BARS, BARS, count, curve, cut, milliseconds, percent, seconds, size, text

LEAST_WIDTH: Final = 40
MOST_REASONS: Final = 3
_NAME_WIDTH: Final = 12
_COLOURS: Final = {"ok": 32, "warn": 33, "bad": 31, "ready": 32, "loading": 33, "draining": 33}
_RED, _BOLD, _DIM = 31, 1, 2

Line = tuple[str, int]
"""Text, and its colour as terminals number them; 0 for none."""


class Shown(Struct):
    """What is to be drawn.

    Attributes:
        url: of the front end.
        state: what it said last; None before it has said anything.
        history: columns of the last minutes of the chosen model; None where there are none.
        trouble: why nothing new comes; empty while it does.
        minutes: how many the history has.
    """

    url: str
    state: Mapping[str, Any] | None = None
    history: Mapping[str, Any] | None = None
    trouble: str = ""
    minutes: int = 10


def lines(shown: Shown, width: int, height: int, *, is_utf8: bool, has_keys: bool) -> list[Line]:
    """Draw; no line is wider than ``width``, and there are at most ``height`` of them.

    Args:
        height: 0 for as many as it takes.
        is_utf8: the terminal shows more than ASCII.
        has_keys: somebody may press keys.
    """
    width = max(width, LEAST_WIDTH)
    found = [*_head(shown, width)]
    state = shown.state
    if state is not None:
        found += _health(state, width)
        found += [("", 0), *_models(state, width)]
        if state.get("model"):
            found += _detail(state["model"], width)
            found += _curves(shown, width, BARS if is_utf8 else ASCII_BARS)
    foot = [("q quits, Tab shows the next model", _DIM)] if has_keys else []
    if height:
        found = found[: max(1, height - len(foot))]
    return [(cut(printable(line), width), colour) for line, colour in (*found, *foot)]


def names_of(state: Mapping[str, Any] | None) -> list[str]:
    """Return the names of the models, in the order in which they are shown."""
    return [str(one["name"]) for one in (state or {}).get("models", ())]


def painted(line: Line, *, has_colours: bool) -> str:
    """Return a line with its colour."""
    told, colour = line
    return f"\x1b[{colour}m{told}\x1b[0m" if colour and has_colours and told else told


def _head(shown: Shown, width: int) -> list[Line]:
    state = shown.state
    if state is None:
        return [(f"headrace top  {shown.url}", _BOLD), (shown.trouble or "Waiting for the front end.", 33)]
    level = str(state["health"]["level"])
    title = f"headrace top  {shown.url}"
    said = f"health: {level}"
    first = (f"{cut(title, width - len(said) - 2).ljust(width - len(said))}{said}", _COLOURS.get(level, 0))
    if shown.trouble:
        return [first, (shown.trouble, _RED)]
    memory = state["redis"]
    used = f"Redis {size(memory['memory_used'])}" + (
        f" of {size(memory['memory_limit'])}" if memory["memory_limit"] else ""
    )
    models = state["models"]
    workers, depth = (sum(one[name] for one in models) for name in ("workers", "depth"))
    rate = sum(one["rate"] for one in models)
    told = used if memory["ok"] else "Redis does not answer"
    return [first, (f"{told}   {_many(workers, 'worker')}   depth {depth}   {count(rate)}/s", 0)]


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _health(state: Mapping[str, Any], width: int) -> list[Line]:
    reasons, found = state["health"]["reasons"], list[Line]()
    for reason in reasons[:MOST_REASONS]:
        what = wrap(printable(f"{str(reason['level']).upper()} {reason['what']}"), width, subsequent_indent="  ")
        found += ((line, _COLOURS.get(reason["level"], 0)) for line in what)
        do = wrap(printable(str(reason["do"])), width, initial_indent="  ", subsequent_indent="  ")
        found += ((line, 0) for line in do)
    if len(reasons) > MOST_REASONS:
        found.append((f"  and {len(reasons) - MOST_REASONS} more", _DIM))
    return found


_MODELS: Final = ("MODEL", "STATE", "WORK", "DEPTH", "RATE/s", "ERR/s", "P50", "P95", "P99", "BATCH", "BUSY", "GOOD")
_LANES: Final = ("LANE", "KIND", "DEPTH", "RUNS", "LIMIT", "RATE/s", "OLDEST", "WEIGHT", "DEAD")
_WORKERS: Final = ("WORKER", "RUNTIME", "PREC", "BUSY", "BATCH", "FIXED ms", "EACH ms", "SEEN")
_GENERATING: Final = ("WORKER", "RUNTIME", "PREC", "BUSY", "RUNS", "SLOTS", "TOKENS/s", "SEEN")


def _models(state: Mapping[str, Any], width: int) -> list[Line]:
    chosen = (state.get("model") or {}).get("name")
    rows, colours = [], []
    for one in state["models"]:
        mark = ">" if one["name"] == chosen else " "
        serving = one["serving"] if one["serving"] != "open" else one["state"]
        rows.append(
            (
                mark + str(one["name"]),
                text(serving),
                count(one["workers"]),
                count(one["depth"]),
                count(one["rate"]),
                count(one["errors_rate"]),
                *(milliseconds(one[name]) for name in ("p50_ms", "p95_ms", "p99_ms")),
                count(one["batch"]),
                percent(one["busy"]),
                percent(one["goodput"]),
            )
        )
        colours.append(_COLOURS.get(serving, _RED))
    return _table(_MODELS, rows, width, colours)


def _detail(model: Mapping[str, Any], width: int) -> list[Line]:
    lanes = [
        (
            str(one["name"]),
            "paused" if one["paused"] else text(one["kind"]),
            count(one["depth"]),
            count(one["running"]),
            count(one["limit"]),
            count(one["rate"]),
            seconds(one["oldest_s"]),
            count(one["weight"]),
            count(one["dead"]),
        )
        for one in model["lanes"]
    ]
    workers, generates = model["workers"], any(one["slots"] is not None for one in model["workers"])
    rows = [(str(one["name"]), text(one["runtime"]), text(one["precision"]), *_work(one, generates)) for one in workers]
    colours = [_RED if one["late_s"] else 0 for one in workers]
    header = _GENERATING if generates else _WORKERS
    found = [("", 0), *_table(_LANES, lanes, width, [33 if one["paused"] else 0 for one in model["lanes"]])]
    return [*found, ("", 0), *_table(header, rows, width, colours)] if rows else found


def _work(one: Mapping[str, Any], generates: bool) -> tuple[str, ...]:
    seen = seconds(one["seen_ms"] / 1000)
    if generates:
        return percent(one["busy"]), count(one["running"]), count(one["slots"]), count(one["tokens_per_s"]), seen
    return (
        percent(one["busy"]),
        count(one["batch"]),
        milliseconds(one["fixed_ms"]),
        milliseconds(one["per_row_ms"]),
        seen,
    )


def _curves(shown: Shown, width: int, bars: str) -> list[Line]:
    history = shown.history
    if not history or not history.get("at_s"):
        return []
    room = max(10, min(width - 24, len(history["at_s"])))
    found: list[Line] = [("", 0), (f"the last {shown.minutes} minutes, up to the highest value", _DIM)]
    for name, title, shows in (
        ("rate", "rate/s", count),
        ("p99_ms", "p99 ms", milliseconds),
        ("depth", "depth", count),
        ("busy", "busy", percent),
    ):
        values = history.get(name) or []
        most = max((value for value in values if isinstance(value, int | float)), default=None)
        found.append((f"{title:8}{curve(values, room, bars)}  {shows(most)}", 0))
    return found


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int, colours: Sequence[int]) -> list[Line]:
    """Return the lines of a table. Where it does not fit, columns come closer; then the first gives way, then the last
    ones go."""
    columns, gap = len(header), 2
    while True:
        widths = [max(len(row[at]) for row in (header, *rows)) for at in range(columns)]
        over = sum(widths) + gap * (columns - 1) - width
        spare = widths[0] - min(widths[0], _NAME_WIDTH)
        if over <= 0 or (gap == 1 and over <= spare) or columns <= 2:
            break
        gap, columns = 1, columns if gap == 2 else columns - 1
    widths[0] -= max(0, min(over, spare))
    found = [(_row(header, widths, gap), _BOLD)]
    found += [(_row(row, widths, gap), colours[at]) for at, row in enumerate(rows)]
    return found


def _row(cells: Sequence[str], widths: Sequence[int], gap: int) -> str:
    first, *others = (cut(cell, width) for cell, width in zip(cells, widths, strict=False))
    aligned = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    return (gap * " ").join([first.ljust(widths[0]), *aligned]).rstrip()
