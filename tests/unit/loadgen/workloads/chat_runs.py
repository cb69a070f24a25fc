"""Makes results of chats for tests, through the functions that make real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from loadgen.results import runfile, summary, token_figures
from loadgen.results.ledger import OK, Ledger, Told
from loadgen.workloads.spec import Workload, make_workload
from tests.unit.loadgen.runs import HASH, START_S, make_run

RATE_PER_S = 50.0
Chat = tuple[float, float]
"""Time to first token and mean time between tokens, in milliseconds."""


def workload_of(**members: Any) -> Workload:
    """Return a workload of chats with the objectives 100 ms and 20 ms."""
    return make_workload({"kind": "chat", "ttft_objective_ms": 100, "itl_objective_ms": 20, **members})


def chat_run(
    count: int, chat: Callable[[int], Chat], *, tokens: int = 11, outcome_of: Callable[[int], int] = lambda number: OK
) -> runfile.RunFile:
    """Return a run of so many chats, one every 20 ms; ``chat`` says how the one of a number went."""
    ledger = Ledger(reads_texts=True)
    for number in range(count):
        due_s = START_S + number / RATE_PER_S
        index = ledger.open(due_s, due_s, 0, False)
        ledger.sent_s[index] = due_s
        ttft_ms, itl_ms = chat(number)
        first_s = due_s + ttft_ms / 1000
        last_s = first_s + itl_ms * (tokens - 1) / 1000
        ledger.told[index] = Told(1, 40, tokens, first_s, last_s, 2 * itl_ms / 1000)
        ledger.close(index, outcome_of(number), last_s)
    return with_workload(ledger, workload_of())


def with_workload(ledger: Ledger, workload: Workload) -> runfile.RunFile:
    """Return the run of a ledger whose requests were those of a workload."""
    run = make_run(ledger, RATE_PER_S)
    requests = summary.columns(ledger, START_S)
    configuration = msgspec.structs.replace(
        run.configuration,
        model="talk",
        workload=workload,
        payloads=[runfile.PayloadInfo("workload chat", "application/json", 100, HASH)],
    )
    service = runfile.Service(None, {"name": "talk", "precision": "fp32"}, None, None, None, None)
    tokens = token_figures.figures(requests, workload, configuration.duration_s, is_open=True)
    return msgspec.structs.replace(run, configuration=configuration, requests=requests, service=service, tokens=tokens)
