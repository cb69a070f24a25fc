"""Drives the real engine against a real null server on a free port."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from loadgen.load.engine import Engine
from loadgen.load.runner import plan
from loadgen.results import runfile, summary
from loadgen.scenario import Payload, Scenario, parse_target
from loadgen.schedule import payload_cycle
from tests.proof.null_server import Behaviour, NullServer, null_server


def scenario_for(port: int, **changes: Any) -> Scenario:
    """Return a short open loop of 100 evenly spaced requests; `changes` replace any of its settings."""
    settings: dict[str, Any] = {
        "target": parse_target(f"http://127.0.0.1:{port}"),
        "model": "null",
        "payloads": (
            Payload("a", "application/octet-stream", b"a"),
            Payload("b", "application/octet-stream", b"b" * 9),
        ),
        "duration_s": 0.25,
        "warmup_s": 0.0,
        "seed": 3,
        "rate_per_s": 400.0,
        "arrivals": "constant",
        "timeout_s": 5.0,
    }
    return Scenario(**{**settings, **changes})


def drive(scenario: Scenario, port: int) -> Engine:
    """Run a scenario to its end."""
    engine = Engine(scenario, plan(scenario), payload_cycle(len(scenario.payloads), scenario.seed), ("127.0.0.1", port))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(engine.run())
    return engine


def measure(behaviour: Behaviour | None = None, **changes: Any) -> tuple[runfile.Counts, Engine, NullServer]:
    """Run a scenario against a null server that behaves so, and return the counts, the engine and the server."""
    with null_server(behaviour) as server:
        engine = drive(scenario_for(server.port, **changes), server.port)
    requests = summary.columns(engine.ledger, engine.start_s)
    return summary.counts(requests, engine.ledger.resent), engine, server


def latency_of(engine: Engine) -> runfile.Latency:
    """Return the latencies of an engine's run."""
    return summary.latency(summary.columns(engine.ledger, engine.start_s))
