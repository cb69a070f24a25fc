"""The null model through REST, beside the same web server without a queue: what the pipeline itself costs."""

from __future__ import annotations

import json
import urllib.request
from contextlib import ExitStack
from typing import Final

from tests.children import clean_environment
from tests.perf import processes
from tests.perf.context import Bench, Found
from tests.perf.load import ECHO_BODY, told
from tests.perf.report.figures import Chart, Figure, Line, Panel, Unit
from tests.perf.report.maths import middle, ratios
from tests.perf.stack import BenchError, Process, Stack
from tests.perf.windows import Window

CONNECTIONS: Final = (1, 32, 64, 128)
BARE: Final = (32, 128)


def measure(bench: Bench) -> Found:
    """Measure three servers in turns: ours, ours with the append-only file, and one without a queue."""
    settings = {**bench.settings, "HEADRACE_APPENDONLY": "no"}
    payload = bench.echo()
    windows: dict[tuple[str, int], list[Window]] = {}
    with ExitStack() as held:
        stack = held.enter_context(Stack(("echo",), settings))
        kept = held.enter_context(Stack(("echo",), {**settings, "HEADRACE_APPENDONLY": "everysec"}))
        answer_file = bench.folder / "answer.json"
        answer_file.write_bytes(_checked_answer(stack))
        bare = held.enter_context(
            Process(["-m", "tests.perf.programs.bare_server", str(answer_file)], clean_environment())
        )
        bare_url = bare.until(r"Serving on (http://\S+)")[1]
        turns = [("echo", stack.url, 1), ("echo", stack.url, 64)]
        turns += [("echo", stack.url, 32), ("bare", bare_url, 32), ("kept", kept.url, 32)]
        turns += [("echo", stack.url, 128), ("bare", bare_url, 128)]
        for _, url, connections in turns:
            bench.generator.closed(url, payload, connections, 1.0)
        count = bench.either(5, 1)
        for number in bench.rounds(count, "echo", 130.0):
            for subject, url, connections in turns:
                pids = {"server": bare.popen.pid} if subject == "bare" else stack.pids if subject == "echo" else {}
                window = bench.generator.closed(url, payload, connections, bench.either(3.0, 1.0), pids)
                windows.setdefault((subject, connections), []).append(window)
                bench.say(f"round {number} of {count}: {_name(subject)}, {connections} connections: {told(window)}")
        _check(windows)
        resident = {
            "front end, after the echo load": processes.resident_bytes(stack.pids["front end"]),
            "echo consumer, after the load": processes.resident_bytes(stack.consumer_pids("echo")[0]),
        }
    found = Found(settings=settings, figures=_figures(bench, windows), charts=[_chart(windows)])
    for name, value in resident.items():
        limit = 80e6 if name.startswith("front end") else None
        found.figures.append(
            Figure(what=f"{name}, resident", unit="bytes", values=[value], command="after the windows", limit=limit)
        )
    return found


def _checked_answer(stack: Stack) -> bytes:
    """Ask once, and check that what comes back is what was sent: wrk looks at the status of an answer only."""
    request = urllib.request.Request(stack.predict_url("echo"), ECHO_BODY, {"Content-Type": "application/octet-stream"})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: bytes = response.read()
    if bytes(json.loads(answer)["outputs"][0]["data"]) != ECHO_BODY:
        raise BenchError("The echo model did not give back the bytes that it was sent.")
    return answer


def _check(windows: dict[tuple[str, int], list[Window]]) -> None:
    for (subject, connections), all_of_them in windows.items():
        if failed := sum(window.failed for window in all_of_them):
            raise BenchError(f"{failed} requests to {_name(subject)} failed at {connections} connections.")


def _figures(bench: Bench, windows: dict[tuple[str, int], list[Window]]) -> list[Figure]:
    made: list[Figure] = []

    def figure(what: str, unit: Unit, values: list[float | None], command: str, limit: float | None = None,
               *, more: bool = False) -> None:  # fmt: skip
        there = [value for value in values if value is not None]
        made.append(Figure(what=what, unit=unit, values=there, command=command, limit=limit, higher_is_better=more))

    command = {n: bench.generator.command(bench.echo(), n) for n in CONNECTIONS}
    for n, limit in ((32, 0.65), (128, 0.9)):
        ours, theirs = ([w.rate_per_s for w in windows[subject, n]] for subject in ("echo", "bare"))
        figure(f"echo, {n} connections", "per_s", [*ours], command[n], more=True)
        bare = f"`python -m tests.perf.programs.bare_server ANSWER`, {command[n]}"
        figure(f"web server without a queue, {n} connections", "per_s", [*theirs], bare, more=True)
        figure("… echo over it", "ratio", [*ratios(ours, theirs)], "both, in turns", limit, more=True)
    one, many = windows["echo", 1], windows["echo", 32]
    figure("echo, 1 connection: p50", "ms", [w.p50_ms for w in one], command[1], 0.4)
    figure("echo, 1 connection: p99", "ms", [w.p99_ms for w in one], command[1], 1.0)
    figure("echo, 32 connections: p99", "ms", [w.p99_ms for w in many], command[32], 4.0)
    figure("echo, 128 connections: p99", "ms", [w.p99_ms for w in windows["echo", 128]], command[128])
    loaded = windows["echo", 64]
    figure("processor time per echo request, 64 connections: front end, Redis and consumer", "us",
           [sum(w.cpu_us.values()) for w in loaded], command[64], 65)  # fmt: skip
    for name in loaded[0].cpu_us:
        figure(f"… {name}", "us", [w.cpu_us[name] for w in loaded], "the same")
    alone = [sum(w.cpu_us.values()) for w in windows["bare", 32]]
    figure("… the web server without a queue, 32 connections", "us", [*alone], command[32])
    kept = [w.rate_per_s for w in windows["kept", 32]]
    figure("echo with `HEADRACE_APPENDONLY=everysec`, 32 connections", "per_s", [*kept], command[32], more=True)
    shares = ratios(kept, [w.rate_per_s for w in many])
    figure("… over that with `no`", "percent", [*shares], "both, in turns", 0.8, more=True)
    return made


def _chart(windows: dict[tuple[str, int], list[Window]]) -> Chart:
    def line(label: str, subject: str, numbers: tuple[int, ...], attribute: str) -> Line:
        values = [middle(getattr(w, attribute) for w in windows[subject, n]) or 0.0 for n in numbers]
        return Line(label=label, x=[float(n) for n in numbers], y=values)

    return Chart(
        name="echo",
        alt="Echo through REST: requests a second and latency by the number of connections",
        panels=[
            Panel(
                title="Echo: requests a second",
                told="64 bytes through REST; medians",
                x_label="connections",
                lines=[
                    line("Headrace", "echo", CONNECTIONS, "rate_per_s"),
                    line("web server without a queue", "bare", BARE, "rate_per_s"),
                ],
            ),
            Panel(
                title="Echo: latency, ms",
                told="the same windows; medians",
                x_label="connections",
                lines=[line("p50", "echo", CONNECTIONS, "p50_ms"), line("p99", "echo", CONNECTIONS, "p99_ms")],
            ),
        ],
    )


def _name(subject: str) -> str:
    return {"echo": "echo", "kept": "echo with everysec", "bare": "without a queue"}[subject]
