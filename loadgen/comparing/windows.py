"""[I/O] Measures one window of one side of a comparison."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from time import perf_counter, process_time

from loadgen.load.engine import Engine
from loadgen.load.runner import make_engine
from loadgen.results import comparefile, summary, token_figures
from loadgen.scenario import Scenario

_PAUSE_S = 0.03
"""Between the parts, so that what the last answers leave to do does not fall into the next part."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a window, carried out. `cpu_share`: of a core that the generator used for it."""

    engine: Engine
    cpu_share: float


@dataclass(slots=True)
class WindowMaker:
    """Measures windows of one service. `answered` counts all answers it gave, warm-ups included.

    Args:
        scenario: the planned load of the first part; its seed is replaced.
        offline_requests, concurrency: the second part.
    """

    scenario: Scenario
    offline_requests: int
    concurrency: int
    answered: int = 0
    engine: Engine | None = None
    stopped: bool = False

    async def measure(self, seed: int) -> comparefile.Window | None:
        """Return one window, or None when it was stopped."""
        planned = await self._carry_out(replace(self.scenario, seed=seed))
        offline = await self._carry_out(
            replace(
                self.scenario,
                seed=seed,
                rate_per_s=None,
                warmup_s=0.0,
                concurrency=self.concurrency,
                requests=self.offline_requests,
                duration_s=3600.0,
            )
        )
        return None if planned is None or offline is None else combine(planned, offline)

    def stop(self) -> None:
        """End the window that is being measured."""
        self.stopped = True
        if self.engine is not None:
            self.engine.stop()

    async def _carry_out(self, scenario: Scenario) -> Part | None:
        if self.stopped:
            return None
        engine = self.engine = make_engine(scenario)
        wall_s, cpu_s = perf_counter(), process_time()
        await engine.run()
        cpu_share = (process_time() - cpu_s) / max(perf_counter() - wall_s, 1e-9)
        self.engine = None
        kinds = [outcome.kind for outcome in engine.ledger.outcomes]
        self.answered += sum(kinds[outcome] in ("ok", "http", "aborted") for outcome in engine.ledger.outcome)
        await asyncio.sleep(_PAUSE_S)
        return None if self.stopped else Part(engine, round(cpu_share, 4))


def combine(first: Part, second: Part) -> comparefile.Window:
    """Return the figures of both parts."""
    planned, offline = first.engine, second.engine
    requests, fast = (summary.columns(engine.ledger, engine.start_s) for engine in (planned, offline))
    latency = summary.latency(requests).from_planned
    scenario = planned.scenario
    tokens = token_figures.figures(requests, scenario.workload, scenario.duration_s, is_open=True)
    counted = (summary.counts(requests, 0), summary.counts(fast, 0))
    failures: dict[str, int] = {}
    for counts in counted:
        for item in counts.http:
            name = f"status {item.status}{f' {item.code}' if item.code else ''}"
            failures[name] = failures.get(name, 0) + item.count
        if counts.aborted:
            failures["aborted"] = failures.get("aborted", 0) + sum(item.count for item in counts.aborted)
        for name in ("timeout", "connection", "malformed", "dropped", "interrupted"):
            if number := getattr(counts, name):
                failures[name] = failures.get(name, 0) + number
    took_s = (max(fast.done_us) - min(at for at in fast.sent_us if at is not None)) / 1e6 if counted[1].ok else math.nan
    return comparefile.Window(
        scheduled=sum(counts.scheduled for counts in counted),
        ok=sum(counts.ok for counts in counted),
        failures=failures,
        mean_ms=latency.mean_ms,
        p95_ms=latency.p95_ms,
        throughput_per_s=counted[1].ok / took_s if took_s > 0 and not counted[1].scheduled - counted[1].ok else None,
        lag_p95_ms=summary.pacing_lag(planned.ledger).p95_ms,
        cpu_share=max(first.cpu_share, second.cpu_share),
        ttft_ms=tokens.ttft.mean_ms if tokens and tokens.ttft else None,
        itl_ms=tokens.itl.mean_ms if tokens and tokens.itl else None,
        goodput=tokens.goodput.share if tokens and tokens.goodput else None,
    )
