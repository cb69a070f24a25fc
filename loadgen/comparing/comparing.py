"""[I/O] A comparison from beginning to end: two services side by side, windows in the order A B B A, one file."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from loadgen.budgets import GateSettings
from loadgen.errors import EXIT_OK, LoadgenError, stop_code
from loadgen.load import observation
from loadgen.load.payload_infos import payload_infos
from loadgen.load.runner import allow_open_files, run_undisturbed
from loadgen.results import comparefile
from loadgen.results.comparefile import SideName
from loadgen.results.machine import current_commit, describe_machine
from loadgen.results.runfile import Commit, Service
from loadgen.scenario import Scenario, Target, is_address, parse_target

from . import asking, regression
from .checkout import Checkout, open_checkout
from .stack import running_stack
from .windows import WindowMaker

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """Where one side comes from: an address (`http://…`), a checkout's folder, or `git:REVISION`.

    `settings` are `HEADRACE_` variables it is started with; they belong to checkouts only. `key` is the API key for an
    address.
    """

    text: str
    settings: Mapping[str, str] = field(default_factory=dict)
    key: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class _Side:
    source: Source
    commit: Commit | None
    target: Target
    metrics: tuple[Target, ...]
    before: observation.ServiceBefore
    maker: WindowMaker


def compare(
    base: Source,
    candidate: Source,
    scenario: Scenario,
    settings: GateSettings,
    shape: tuple[int, int],
    log_folder: Path,
    say: Say,
) -> tuple[comparefile.CompareFile, int]:
    """Measure both and return the comparison, with the exit code: not 0 when it was cut short after the first pair.

    Args:
        scenario: the planned load of a window; its target is replaced by each side's.
        shape: requests of a window's offline part, and how many of them are under way at a time.
        log_folder: where the output of stacks that are started goes, and what they found out at their start.
        say: receives a line for each pair.

    Raises:
        LoadgenError: one of the sides cannot be had; nothing was measured then.
        KeyboardInterrupt: nothing was measured yet.
    """
    with ExitStack() as held:
        started_at = datetime.now(UTC)
        sides: dict[SideName, _Side] = {}
        both: tuple[tuple[SideName, Source], ...] = (("base", base), ("candidate", candidate))
        for name, source in both:
            sides[name] = _open(name, source, scenario, shape, log_folder, held, say)
        allow_open_files(scenario.connections)
        answers = _ask(sides, scenario)
        pairs: list[comparefile.Pair] = []
        services: dict[SideName, Service] = {}
        code = EXIT_OK
        try:
            stopped_by = _measure(sides, settings, scenario.seed, pairs, say)
            code = EXIT_OK if stopped_by is None else 128 + stopped_by
            for name, side in sides.items():
                services[name] = observation.after(
                    side.before, side.target, scenario.model, side.metrics, side.maker.answered
                )
        except (LoadgenError, KeyboardInterrupt) as stop:  # the pairs measured so far are worth keeping
            if not pairs:
                raise
            code = stop_code(stop)
            if isinstance(stop, LoadgenError):
                say(f"loadgen: {stop}")
        found = comparefile.CompareFile(
            format=comparefile.FORMAT,
            version=comparefile.VERSION,
            started_at=started_at.isoformat(timespec="milliseconds"),
            partial=code != EXIT_OK,
            plan=_plan(scenario, settings, shape),
            machine=describe_machine(),
            base=_described(sides["base"], services.get("base")),
            candidate=_described(sides["candidate"], services.get("candidate")),
            answers=answers,
            pairs=pairs,
        )
        return found, code


def _open(
    name: SideName,
    source: Source,
    scenario: Scenario,
    shape: tuple[int, int],
    log_folder: Path,
    held: ExitStack,
    say: Say,
) -> _Side:
    commit: Commit | None = None
    metrics: tuple[Target, ...] = ()
    if is_address(source.text):
        target = parse_target(source.text, source.key)
    else:
        checkout: Checkout = held.enter_context(open_checkout(source.text))
        commit = current_commit(checkout.folder)
        say(f"Starting the {name}: {checkout.described}")
        log = log_folder / f"{name}.log"
        stack = held.enter_context(
            running_stack(checkout.folder, scenario.model, source.settings, log, log_folder / "notes")
        )
        target, metrics = parse_target(stack.url), tuple(parse_target(url) for url in stack.metrics_urls)
    addresses = (target, *metrics)
    before = observation.before(target, scenario.model, addresses, scenario.asks_openai)
    maker = WindowMaker(replace(scenario, target=target), *shape)
    return _Side(source, commit, target, addresses, before, maker)


def _ask(sides: Mapping[SideName, _Side], scenario: Scenario) -> list[comparefile.Answer] | None:
    """Compare the answers to the first of the payloads; None where a side is a stream, which is not asked."""
    if any(side.target.is_stream for side in sides.values()):
        return None
    asked = {
        name: asking.AskedService(
            side.target,
            scenario.model,
            scenario.timeout_s,
            replace(scenario, target=side.target).path if scenario.asks_openai else None,
        )
        for name, side in sides.items()
    }
    found = asking.compare_answers(asked["base"], asked["candidate"], scenario.payloads)
    for name, side in sides.items():
        side.maker.answered += asked[name].answered
    return found


def _measure(
    sides: Mapping[SideName, _Side], settings: GateSettings, seed: int, pairs: list[comparefile.Pair], say: Say
) -> int | None:
    stopped_by: list[int] = []

    def stop(number: int) -> None:
        stopped_by.append(number)
        for side in sides.values():
            side.maker.stop()

    async def measure() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        for side in sides.values():  # caches and connections of both, left out of everything
            await side.maker.measure(seed)
        for batch in (1, 2):
            await _batch(sides, settings, seed, 1 if batch == 1 else 2, pairs, say)
            if stopped_by or regression.decide(pairs, settings).outcome != "incomplete":
                return
            say("Slower than the margin allows; measuring a second, independent batch to confirm it.")

    run_undisturbed(measure())
    return stopped_by[0] if stopped_by else None


async def _batch(
    sides: Mapping[SideName, _Side],
    settings: GateSettings,
    seed: int,
    batch: Literal[1, 2],
    pairs: list[comparefile.Pair],
    say: Say,
) -> None:
    mine: list[comparefile.Pair] = []
    while regression.wants_more(mine, settings):
        number = len(mine)
        pair_seed = seed + 1000 * batch + number
        first: SideName = "base" if number % 2 == 0 else "candidate"  # A B, B A, A B, …: drift falls on both alike
        second: SideName = "candidate" if first == "base" else "base"
        windows: dict[SideName, comparefile.Window] = {}
        for name in (first, second):
            window = await sides[name].maker.measure(pair_seed)
            if window is None:
                return
            windows[name] = window
            gc.collect()
        pair = comparefile.Pair(batch, pair_seed, first, windows["base"], windows["candidate"])
        mine.append(pair)
        pairs.append(pair)
        say(_line(pair, len(mine), settings))


def _line(pair: comparefile.Pair, number: int, settings: GateSettings) -> str:
    parts = []
    for metric in regression.metrics_of([pair]):
        worse = regression.worsening(metric, pair)
        change = None if worse is None else -worse if metric in regression.UPWARDS else worse
        parts.append(f"{metric} {'?' if change is None else f'{math.expm1(change):+.1%}'}")
    most = settings.pairs if number <= settings.pairs else settings.most_pairs
    batch = "pair" if pair.batch == 1 else "confirming pair"
    return f"{batch} {number:2} of {most}  {'  '.join(parts)}"


def _described(side: _Side, service: Service | None) -> comparefile.Side:
    """Return what there is to say of a side; without its last words, what it said at first."""
    if service is None:
        service = Service(side.before.version, side.before.card, None, None, None, None)
    return comparefile.Side(
        source=side.target.shown if is_address(side.source.text) else side.source.text,
        settings=dict(side.source.settings),
        commit=side.commit,
        version=service.version,
        card=service.card,
        items=service.items,
        answered=side.maker.answered,
    )


def _plan(scenario: Scenario, settings: GateSettings, shape: tuple[int, int]) -> comparefile.Plan:
    return comparefile.Plan(
        model=scenario.model,
        rate_per_s=scenario.rate_per_s or 0.0,
        arrivals=scenario.arrivals,
        window_s=scenario.duration_s,
        warmup_s=scenario.warmup_s,
        offline_requests=shape[0],
        concurrency=shape[1],
        timeout_ms=scenario.timeout_s * 1000,
        seed=scenario.seed,
        pairs=settings.pairs,
        most_pairs=settings.most_pairs,
        payloads=payload_infos(scenario),
        workload=scenario.workload,
    )
