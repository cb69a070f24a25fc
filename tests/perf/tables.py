"""From results to tables: Markdown for docs/benchmarks.md and plain text for the terminal. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .figures import Results, Window, spread

Format = Callable[[float], str]

BATCH_MODELS: Final = (
    ("imagenet", "`imagenet`, JPEG photographs"),
    ("bench-mobilenet", "`bench-mobilenet`, raw pixels"),
)
BATCHED, UNBATCHED = 32, 1
MODEL_CONNECTIONS: Final = 32


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be reached: at most `limit`, or at least."""

    limit: float
    at_least: bool = False

    def missed_by(self, value: float) -> bool:
        """Whether a value falls short."""
        return value < self.limit if self.at_least else value > self.limit


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of figures."""

    what: str
    target: str
    measured: str
    command: str
    missed: bool = False


def figure(
    what: str,
    values: Iterable[float | None],
    show: Format,
    command: str,
    target: Target | None = None,
    *,
    higher_is_better: bool = False,
) -> list[Row]:
    """Return the row of one figure, or none when it was not measured. The median is held against the target."""
    found = spread(values, higher_is_better=higher_is_better)
    if found is None:
        return []
    missed = target is not None and target.missed_by(found.median)
    told = f"{show(found.median)} (worst {show(found.worst)})" if found.median != found.worst else show(found.median)
    sign = "" if target is None else f"{'≥' if target.at_least else '≤'} {show(target.limit)}"
    return [Row(what, sign or "-", told, command, missed)]


def rows(results: Results) -> list[Row]:
    """Return every figure that has a target, and those that explain them."""
    return [*_start_rows(results), *_echo_rows(results), *_cpu_rows(results), *_memory_rows(results)]


def _start_rows(results: Results) -> list[Row]:
    ready = [start.ready_s for start in results.starts]
    what = f"start of the default model to a real answer, {_times(len(ready), 'start')}"
    return figure(what, ready, seconds, "`python -m headrace up`", Target(15.0))


def _echo_rows(results: Results) -> list[Row]:
    one, many, most = (results.of("echo", connections) for connections in (1, 32, 128))
    bare = results.of("bare", 32)
    rate = [window.rate_per_s for window in many]
    ratio = [ours.rate_per_s / theirs.rate_per_s for ours, theirs in zip(many, bare, strict=True)]
    loads = [load_command(results, connections) for connections in (1, 32, 128)]
    direct = "`python examples/fast_producer.py echo.bin --model echo --count N`"
    return [
        *figure("echo, 1 connection: p50", [w.p50_ms for w in one], milliseconds, loads[0], Target(0.6)),
        *figure("echo, 1 connection: p99", [w.p99_ms for w in one], milliseconds, loads[0]),
        *figure("echo, 32 connections: requests/s", rate, whole, loads[1], Target(10_000, True), higher_is_better=True),
        *figure("echo, 32 connections: p99", [w.p99_ms for w in many], milliseconds, loads[1], Target(8.0)),
        *figure(
            "echo, 128 connections: requests/s", [w.rate_per_s for w in most], whole, loads[2], higher_is_better=True
        ),
        *figure("echo, 128 connections: p99", [w.p99_ms for w in most], milliseconds, loads[2]),
        *figure(
            "web server without a queue, 32 connections: requests/s",
            [w.rate_per_s for w in bare],
            whole,
            f"`python -m tests.perf.bare_server ANSWER`, {loads[1]}",
            higher_is_better=True,
        ),
        *figure("echo over the web server without a queue", ratio, share, "both of the above", higher_is_better=True),
        *figure(
            "echo, direct producer's example: items/s",
            [run.rate_per_s for run in results.direct],
            whole,
            direct,
            higher_is_better=True,
        ),
    ]


def _cpu_rows(results: Results) -> list[Row]:
    """Processor time per request, of the windows at 32 connections."""
    used = [window.cpu_us for window in results.of("echo", 32) if window.cpu_us is not None]
    alone = [window.cpu_us for window in results.of("bare", 32) if window.cpu_us is not None]
    found: list[Row] = []
    for name, label in (("front end", "front end"), ("Redis", "Redis"), ("consumer echo", "consumer")):
        what = f"processor time per echo request, 32 connections: {label}"
        found += figure(what, [window.get(name) for window in used], microseconds, "processor times of the process")
    what = "… the web server without a queue"
    return found + figure(what, [sum(window.values()) for window in alone], microseconds, "the same")


def _memory_rows(results: Results) -> list[Row]:
    starts, overheads, up = results.starts, results.overheads, "`python -m headrace up`"
    found = figure("front end, resident when ready", [s.front_end_bytes for s in starts], megabytes, up, Target(80e6))
    for name, resident in results.resident_bytes.items():
        target = Target(80e6) if name.startswith("front end") else None
        found += figure(f"{name}, resident", [resident], megabytes, "after the echo windows", target)
    consumers = [start.consumer_bytes for start in starts]
    found += figure("`imagenet` consumer, batches up to 32, resident when ready", consumers, megabytes, up)
    one = "`HEADRACE_MAX_BATCH=1 python -m headrace up`"
    alone = "`HEADRACE_MAX_BATCH=1 python -m tests.perf.bare_model imagenet 1`"
    found += figure("… max batch 1", [both.consumer_bytes for both in overheads], megabytes, one)
    found += figure("the same model alone, max batch 1", [both.bare_bytes for both in overheads], megabytes, alone)
    own = [both.consumer_bytes - both.bare_bytes for both in overheads]
    what = "consumer's own overhead beside torch: the difference"
    return found + figure(what, own, megabytes, "both of the above", Target(60e6))


def batching_table(results: Results) -> list[list[str]]:
    """Return the table of batching off and on, its head first; every figure the median of its windows."""
    table = [["model", "batching", "requests/s", "mean", "p99", "device busy", "rows per batch"]]
    for model, label in BATCH_MODELS:
        for most, name in ((UNBATCHED, "off"), (BATCHED, "up to 32")):
            windows = results.of(model, MODEL_CONNECTIONS, most)
            if windows:
                table.append([label, name, *_batching_cells(windows)])
        gain = batching_gain(results, model)
        if gain is not None:
            table.append([label, "on / off", f"{gain:.2f}", "", "", "", ""])
    return table


def batching_gain(results: Results, model: str) -> float | None:
    """Return the median of requests/s with batches over requests/s without, window by window."""
    on, off = (results.of(model, MODEL_CONNECTIONS, most) for most in (BATCHED, UNBATCHED))
    pairs = [a.rate_per_s / b.rate_per_s for a, b in zip(on, off, strict=False) if b.rate_per_s]
    found = spread(pairs, higher_is_better=True)
    return None if found is None else found.median


def _batching_cells(windows: Sequence[Window]) -> list[str]:
    columns: list[tuple[list[float | None], Format]] = [
        ([w.rate_per_s for w in windows], decimal),
        ([w.mean_ms for w in windows], milliseconds),
        ([w.p99_ms for w in windows], milliseconds),
        ([w.busy_share for w in windows], percent),
        ([w.batch_rows for w in windows], decimal),
    ]
    found = [(spread(values, higher_is_better=False), show) for values, show in columns]
    return ["-" if value is None else show(value.median) for value, show in found]


def window_table(results: Results) -> list[list[str]]:
    """Return every window's requests/s and p99, one line per scenario, its head first."""
    table = [["scenario", "requests/s of each window", "p99 of each window"]]
    for key in dict.fromkeys((w.subject, w.connections, w.max_batch) for w in results.windows):
        subject, connections, most = key
        name = f"{'no queue' if subject == 'bare' else subject}, {_times(connections, 'connection')}"
        name += "" if most is None else ", batches up to 32" if most == BATCHED else ", one by one"
        windows = results.of(*key)
        rates = " · ".join(whole(w.rate_per_s) for w in windows)
        p99 = " · ".join("-" if w.p99_ms is None else milliseconds(w.p99_ms) for w in windows)
        table.append([name, rates, p99])
    return table


def conditions(results: Results) -> str:
    """Return the paragraph that says where and how it was measured."""
    machine, commit = results.machine, results.commit
    memory = "unknown" if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.0f} GiB"
    state = "" if commit is None else f" at commit `{commit.id[:12]}`{' with changes' if commit.dirty else ''}"
    steal = (
        "" if results.steal_share is None else f" The host kept back {results.steal_share:.1%} of the processor time."
    )
    busy = "" if machine.load_1m is None else f" Load average before the run: {machine.load_1m:.2f}."
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items() if name != "server")
    settings = ", ".join(f"`{name}={value}`" for name, value in results.settings.items())
    own = ", ".join(
        f"`{name}={results.echo_settings[name]}`" for name in results.echo_settings.keys() - results.settings
    )
    settings += f" (and for echo {own})" if own else ""
    return (
        f"Measured {results.started_at[:16].replace('T', ' ')} UTC{state} in {results.took_s:.0f} s, on "
        f"{machine.cpus} cores ({machine.processor or 'unknown processor'}), {memory}, {machine.system}, "
        f"Python {machine.python}; the load generator ({results.generator} for echo, loadgen for the models) on the "
        f"same cores.{busy}{steal} {settings}. {results.versions.get('server', '')}; {versions}."
    )


def warnings(results: Results) -> list[str]:
    """Return what a reader must know before trusting a figure."""
    found = list(results.notes)
    if results.quick:
        found.insert(0, "Made with `--quick`: the windows are too short for these figures to mean much.")
    failed = sum(window.failed for window in results.windows) + sum(run.failed for run in results.direct)
    if failed:
        found.append(f"{failed} requests failed.")
    return found


def block(results: Results) -> str:
    """Return the Markdown for docs/benchmarks.md."""
    body = [[row.what, row.target, f"{row.measured}{' **missed**' if row.missed else ''}", row.command]
            for row in rows(results)]  # fmt: skip
    parts = [
        conditions(results),
        *(f"> {warning}" for warning in warnings(results)),
        markdown([["what", "target", "measured: middle window", "command"], *body]),
        "With batches and without, 32 connections, `python -m loadgen run --concurrency 32` (medians of the windows):",
        markdown(batching_table(results)),
        "<details><summary>Every window</summary>",
        markdown(window_table(results)),
        "</details>",
    ]
    return "\n\n".join(parts)


def text(results: Results) -> str:
    """Return the same for a terminal."""
    body = [[row.what, row.target, row.measured + ("  MISSED" if row.missed else "")] for row in rows(results)]
    tables = [[["what", "target", "measured: middle window"], *body], batching_table(results)]
    lines = [conditions(results).replace("`", ""), *warnings(results), *(aligned(table) for table in tables)]
    return "\n\n".join(lines)


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is its head."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal: no backticks, columns as wide as their widest cell."""
    table = [[cell.replace("`", "") for cell in row] for row in table]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def load_command(results: Results, connections: int) -> str:
    """Return what sent the echo load."""
    if results.generator == "loadgen":
        return f"`python -m loadgen run --concurrency {connections} …`"
    return f"`wrk -t1 -c{connections} -s tests/perf/echo.lua URL/v1/models/echo/predict`"


def seconds(value: float) -> str:
    """Seconds with one decimal."""
    return f"{value:.1f} s"


def milliseconds(value: float) -> str:
    """Milliseconds with about three figures."""
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def microseconds(value: float) -> str:
    """Whole microseconds."""
    return f"{value:.0f} µs"


def megabytes(value: float) -> str:
    """Millions of bytes."""
    return f"{value / 1e6:.0f} MB"


def whole(value: float) -> str:
    """A whole number with thousands separated."""
    return f"{value:,.0f}"


def decimal(value: float) -> str:
    """One decimal below 100."""
    return f"{value:.1f}" if value < 100 else whole(value)


def share(value: float) -> str:
    """A ratio with two decimals."""
    return f"{value:.2f}"


def percent(value: float) -> str:
    """A share in whole percent."""
    return f"{value:.0%}"


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
