"""Runs a supervisor over stand-in processes in a process of its own, so that tests can send it real signals.

The argument is JSON: ``services`` and ``probes`` as lists of {name, stage, code, stop_limit_s, model, loaded_file},
where ``code`` is what ``python -c`` runs; ``ready_file`` holds the start back at the stage REDIS, or at the service
that names one of its own, until that file exists, and a consumer counts as loaded while its ``loaded_file`` exists.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from headrace.stack.child import ChildSpec, Stage
from headrace.stack.console import Console
from headrace.stack.restarts import RestartPolicy
from headrace.stack.supervisor import Supervisor


def _spec(entry: dict[str, Any], ready_file: str | None) -> ChildSpec:
    stage = Stage[entry["stage"]]
    awaited = entry.get("ready_file") or (ready_file if stage is Stage.REDIS else None)
    ready = Path(awaited).exists if awaited else None
    argv = tuple(entry.get("argv") or (sys.executable, "-S", "-E", "-c", entry["code"]))
    if "workers" in entry:
        argv = (*argv, str(entry["workers"]))
    loaded = Path(entry["loaded_file"]).exists if "loaded_file" in entry else None
    limit_s, model = entry.get("stop_limit_s", 10.0), entry.get("model", "")
    return ChildSpec(entry["name"], argv, stage, limit_s, ready, model=model, is_loaded=loaded)


def main() -> int:
    plan = json.loads(sys.argv[1])
    ready_file = plan.get("ready_file")
    services = [_spec(entry, ready_file) for entry in plan["services"]]
    probes = [_spec(entry, None) for entry in plan.get("probes", [])]
    console = Console([spec.name for spec in (*services, *probes)])
    supervisor = Supervisor(
        services,
        probes,
        os.environ,
        str(Path.cwd()),
        console,
        new_policy=partial(RestartPolicy, first_delay_s=0.01),
        ready_limit_s=plan.get("ready_limit_s", 20.0),
        patience_s=plan.get("patience_s", 60.0),
        on_crashes=lambda crashes: console.say(f"CRASHES {sorted(crashes)}"),
    )

    def on_ready() -> None:
        report = supervisor.report
        console.say(f"READY {json.dumps([report.ready, dict(report.failed)])}")

    try:
        return asyncio.run(supervisor.run(on_ready, lambda: console.say("SERVING")))
    finally:
        console.close()


if __name__ == "__main__":
    sys.exit(main())
