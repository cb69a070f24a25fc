"""[I/O] One run from beginning to end: ask the service about itself, send the load, ask again, write the result."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import uvloop

from loadgen.ending import signals_kept
from loadgen.errors import LoadgenError, Terminated
from loadgen.progress import Progress, Snapshot
from loadgen.results import runfile, summary, token_figures
from loadgen.results.machine import current_commit, describe_machine
from loadgen.scenario import Scenario, Target
from loadgen.schedule import payload_cycle, plan_arrivals

from . import observation
from .engine import Engine
from .payload_infos import payload_infos

_CONNECT_S: Final = 5.0
_SPARE_FILES: Final = 64


def plan(scenario: Scenario) -> list[float]:
    """Return the due times of an open loop, in seconds from the start of the measured time; none for a closed loop."""
    if scenario.rate_per_s is None:
        return []
    rate, seed, kind, bunched = scenario.rate_per_s, scenario.seed, scenario.arrivals, scenario.burstiness
    warmup = plan_arrivals(kind, rate, scenario.warmup_s, seed, stream="warmup", burstiness=bunched)
    measured = plan_arrivals(
        kind, rate, scenario.duration_s, seed, burstiness=bunched, rate_end_per_s=scenario.rate_end_per_s
    )
    return [due_s - scenario.warmup_s for due_s in warmup] + measured


def make_engine(scenario: Scenario) -> Engine:
    """Return an engine that will carry out a scenario; the address is resolved and tried here.

    Raises:
        LoadgenError: nothing answers there.
    """
    order = payload_cycle(len(scenario.payloads), scenario.seed)
    return Engine(scenario, plan(scenario), order, _address(scenario))


def perform(
    scenario: Scenario, metrics: tuple[Target, ...], open_progress: Callable[[], Progress]
) -> tuple[runfile.RunFile, int | None]:
    """Run a scenario and return its result, with the signal that cut it short (None: it ran to its end).

    Args:
        metrics: addresses whose metrics are read before and after; the first is the front end's.

    Raises:
        LoadgenError: the service cannot be reached or has no such model; nothing was measured then.
    """
    before = observation.before(scenario.target, scenario.model, metrics, scenario.asks_openai)
    engine = make_engine(scenario)
    allow_open_files(scenario.connections)
    machine, commit = describe_machine(), current_commit()
    started_at, stepped_s = datetime.now(UTC), time.time() - time.monotonic()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    stopped_by = drive(engine, scenario, open_progress)
    cpu_share = (time.process_time() - cpu_s) / max(time.perf_counter() - wall_s, 1e-9)
    stepped_s = time.time() - time.monotonic() - stepped_s
    answered = _answered(engine)
    try:
        service = observation.after(before, scenario.target, scenario.model, metrics, answered)
    except KeyboardInterrupt as stop:  # the load is over, and its figures are worth keeping
        service = runfile.Service(before.version, before.card, None, None, None, None)
        stopped_by = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
    requests = summary.columns(engine.ledger, engine.start_s)
    run = runfile.RunFile(
        format=runfile.FORMAT,
        version=runfile.VERSION,
        started_at=started_at.isoformat(timespec="milliseconds"),
        partial=stopped_by is not None,
        configuration=_configuration(scenario),
        machine=machine,
        commit=commit,
        service=service,
        warmup=summary.warmup_counts(engine.ledger),
        counts=summary.counts(requests, engine.ledger.resent),
        latency=summary.latency(requests),
        windows=summary.windows(requests),
        validity=runfile.Validity(
            most_in_flight=engine.most_in_flight,
            clock_step_ms=round(stepped_s * 1000, 3),
            planned_rate_per_s=len(requests.planned_us) / scenario.duration_s,
            achieved_rate_per_s=summary.achieved_rate_per_s(requests, scenario.duration_s),
            generator_cpu_share=round(cpu_share, 4),
            parsed_replies=engine.parsed_replies,
            answered=answered,
            pacing_lag=summary.pacing_lag(engine.ledger),
            send_lag=summary.send_lag(requests),
        ),
        requests=requests,
        tokens=token_figures.figures(requests, scenario.workload, scenario.duration_s, scenario.rate_per_s is not None),
    )
    return run, stopped_by


def drive(engine: Engine, scenario: Scenario, open_progress: Callable[[], Progress]) -> int | None:
    """Let the engine run on an event loop of its own; Ctrl-C and SIGTERM stop it in good order."""
    stopped_by: list[int] = []

    def stop(number: int) -> None:
        stopped_by.append(number)
        engine.stop()

    async def drive() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        progress = open_progress()
        shown = loop.create_task(_show(engine, scenario, progress))
        try:
            await engine.run()
        finally:
            shown.cancel()
            [ended] = await asyncio.gather(shown, return_exceptions=True)
            progress.close()
            if isinstance(ended, Exception):  # the run is none the worse for it
                with suppress(OSError, ValueError):
                    print(f"loadgen: Progress was not shown to the end: {ended!r}", file=sys.stderr)

    run_undisturbed(drive())
    return stopped_by[0] if stopped_by else None


def run_undisturbed(measurement: Coroutine[Any, Any, None]) -> None:
    """Run a measurement in an event loop of its own, with no collection of garbage meanwhile.

    A full collection would stop the generator for milliseconds, and a measurement makes next to no garbage.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with signals_kept(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measurement)
    finally:
        gc.enable()
        gc.unfreeze()


async def _show(engine: Engine, scenario: Scenario, progress: Progress) -> None:
    shown_s = time.perf_counter()
    while True:
        await asyncio.sleep(progress.interval_s)
        now_s = time.perf_counter()
        recent_ms, engine.recent_ms = engine.recent_ms, []
        ttfts_ms, engine.recent_ttft_ms = engine.recent_ttft_ms, []
        warming = now_s < engine.start_s
        begin_s = engine.start_s - scenario.warmup_s if warming else engine.start_s
        snapshot = Snapshot(
            elapsed_s=max(now_s - begin_s, 0.0),
            total_s=scenario.warmup_s if warming else scenario.duration_s,
            warming=warming,
            ok=engine.ok,
            failed=engine.failed,
            in_flight=engine.in_flight,
            interval_s=now_s - shown_s,
            recent_ms=tuple(sorted(recent_ms)),
            recent_ttft_ms=tuple(sorted(ttfts_ms)),
        )
        shown_s = now_s
        progress.show(snapshot)


def _answered(engine: Engine) -> int:
    kinds = [outcome.kind for outcome in engine.ledger.outcomes]
    return sum(kinds[outcome] in ("ok", "http", "aborted") for outcome in engine.ledger.outcome if outcome < len(kinds))


def _configuration(scenario: Scenario) -> runfile.Configuration:
    is_open = scenario.rate_per_s is not None
    return runfile.Configuration(
        url=scenario.target.shown,
        model=scenario.model,
        scenario=scenario.kind,
        arrivals=scenario.arrivals if is_open else None,
        burstiness=scenario.burstiness if is_open and scenario.arrivals == "gamma" else None,
        rate_per_s=scenario.rate_per_s,
        rate_end_per_s=scenario.rate_end_per_s,
        concurrency=scenario.concurrency,
        requests=scenario.requests,
        duration_s=scenario.duration_s,
        warmup_s=scenario.warmup_s,
        seed=scenario.seed,
        timeout_ms=scenario.timeout_s * 1000,
        max_in_flight=scenario.max_in_flight,
        connections=scenario.connections,
        payloads=payload_infos(scenario),
        workload=scenario.workload,
    )


def _address(scenario: Scenario) -> tuple[str, int]:
    """Resolve the name once, so that no request pays for it."""
    host, port = scenario.target.host, scenario.target.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LoadgenError(f"Cannot resolve {host}: {error.strerror}.") from error
    for family, kind, protocol, _, address in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.settimeout(_CONNECT_S)
            probe.connect(address)
            return str(address[0]), int(address[1])
    raise LoadgenError(f"Cannot reach {scenario.target.shown}: connection refused.")


def allow_open_files(connections: int) -> None:
    """Raise this process's limit of open files, as far as it may, for so many connections."""
    count = connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        with suppress(OSError, ValueError):
            resource.setrlimit(
                resource.RLIMIT_NOFILE, (count if hard == resource.RLIM_INFINITY else min(count, hard), hard)
            )
