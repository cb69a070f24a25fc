"""Chats against a server that streams: times, tokens, goodput, and every way to go wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loadgen.load.engine import Engine
from loadgen.results import runfile, summary, token_figures
from loadgen.scenario import made_payloads
from loadgen.workloads.spec import make_workload
from tests.unit.loadgen.driving import drive, scenario_for
from tests.unit.loadgen.workloads.chat_server import DONE, Script, answer, chat_server, part, usage

ERROR = b'data: {"error": {"message": "m", "code": "crashed"}}\n\n'


def measure(
    script: Callable[[int], Script], members: dict[str, Any] | None = None, **changes: Any
) -> tuple[runfile.Requests, runfile.TokenFigures, Engine]:
    """Send chats, and return what became of them."""
    workload = make_workload({"kind": "chat", "distinct": 8, **(members or {})})
    settings = {"workload": workload, "payloads": made_payloads(workload, "m"), "model": "m", "rate_per_s": 80.0}
    with chat_server(script) as server:
        scenario = scenario_for(server.port, **{**settings, **changes})
        engine = drive(scenario, server.port)
    assert set(server.paths) == {"/v1/chat/completions"}
    requests = summary.columns(engine.ledger, engine.start_s)
    figures = token_figures.figures(requests, workload, scenario.duration_s, scenario.rate_per_s is not None)
    assert figures is not None
    return requests, figures, engine


def test_times_and_tokens() -> None:
    requests, figures, engine = measure(lambda number: [0.05, *answer(5, 0.02)])
    assert summary.counts(requests, 0).ok == figures.texts == engine.ok == 20
    assert (figures.prompt_tokens, figures.output_tokens) == (60, 100)
    assert figures.ttft is not None and figures.itl is not None and figures.worst_gap is not None
    assert figures.ttft.min_ms is not None and figures.ttft.min_ms >= 69
    assert figures.itl.p50_ms is not None and figures.itl.p50_ms >= 19
    assert figures.worst_gap.max_ms is not None and figures.worst_gap.max_ms >= figures.itl.p50_ms
    assert figures.output_tokens_per_s is not None and figures.prompt_tokens_per_s is not None
    assert figures.output_tokens_per_s > figures.prompt_tokens_per_s > 0


def test_waiting_to_be_sent_counts_into_the_first_token() -> None:
    """Coordinated omission: one connection, whose first answer takes long, and all others have to wait for it."""
    requests, figures, _ = measure(lambda number: [0.5 if number == 0 else 0.0, *answer(3)], connections=1)
    assert summary.counts(requests, 0).ok == 20
    assert figures.ttft is not None and figures.ttft_from_sent is not None and figures.goodput is not None
    assert figures.ttft.p50_ms is not None and figures.ttft_from_sent.p50_ms is not None
    assert figures.ttft.p50_ms > 200 and figures.ttft.p50_ms > 3 * figures.ttft_from_sent.p50_ms


def test_a_closed_loop() -> None:
    requests, figures, engine = measure(lambda number: answer(4, 0.01), rate_per_s=None, concurrency=3, duration_s=0.4)
    assert engine.most_in_flight == 3 and summary.counts(requests, 0).ok == engine.ok > 6
    assert figures.goodput is not None and (figures.goodput.good, figures.goodput.share) == (engine.ok, 1.0)


def test_goodput_is_the_share_within_both_objectives() -> None:
    def script(number: int) -> Script:
        late, halting = [0.6, *answer(3)], answer(3, 0.4)
        return late if number % 4 == 0 else halting if number % 4 == 1 else answer(3)

    _, figures, _ = measure(script, {"ttft_objective_ms": 500, "itl_objective_ms": 200})
    assert figures.goodput is not None
    assert (figures.goodput.good, figures.goodput.share) == (10, 0.5)
    assert figures.goodput.rate_per_s == 40


def outcomes(requests: runfile.Requests) -> list[tuple[str, str | None]]:
    return [(requests.outcomes[index].kind, requests.outcomes[index].code) for index in requests.outcome]


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ([part("a"), ERROR], ("aborted", "crashed")),
        ([part("a")], ("aborted", None)),
        ([part("a"), b"data: {half\n\n", *answer()], ("malformed", None)),
        ([b'{"object": "chat.completion"}'], ("aborted", None)),
        ([part("a"), DONE], ("malformed", None)),
    ],
)
def test_what_fails(script: Script, outcome: tuple[str, str | None]) -> None:
    requests, figures, _ = measure(lambda number: script if number == 7 else answer())
    assert [found for found in outcomes(requests) if found[0] != "ok"] == [outcome]
    assert figures.goodput is not None and figures.goodput.good == 19
    assert figures.ttft is not None and (figures.ttft.failed, figures.ttft.mean_ms) == (1, None)
    assert figures.itl is not None and figures.itl.failed == 1
    counts = summary.counts(requests, 0)
    if outcome[0] == "aborted":
        assert [(one.code, one.count) for one in counts.aborted] == [(outcome[1], 1)]
    assert counts.scheduled == 20 == counts.ok + 1


def test_a_stream_that_stops_times_out() -> None:
    requests, figures, _ = measure(lambda number: [part("a"), 30.0] if number < 2 else answer(), timeout_s=0.4)
    assert sorted(outcomes(requests))[-2:] == [("timeout", None)] * 2
    assert requests.tokens is not None and sum(at is not None for at in requests.tokens.first_us) == 20
    assert figures.ttft is not None and figures.ttft.failed == 2


def test_a_service_that_does_not_count_tokens_has_no_time_between_them() -> None:
    silent: Script = [part("a"), part("b"), part(None, "stop"), DONE]
    _, figures, _ = measure(lambda number: silent)
    assert (figures.prompt_tokens, figures.output_tokens, figures.output_tokens_per_s) == (None, None, None)
    assert figures.itl is not None and figures.itl.failed == 20
    assert figures.goodput is not None and figures.goodput.good == 0


def test_a_single_token_has_no_time_between_and_can_be_good() -> None:
    _, figures, _ = measure(lambda number: [part("a"), part(None, "stop"), usage(3, 1), DONE])
    assert figures.itl is not None and figures.itl.count == 0
    assert figures.goodput is not None and figures.goodput.share == 1.0


def test_the_key_and_the_plan_are_those_of_every_run() -> None:
    first, _, one = measure(lambda number: answer(), arrivals="poisson", seed=4)
    second, _, two = measure(lambda number: answer(), arrivals="poisson", seed=4)
    assert first.planned_us == second.planned_us and first.payload == second.payload
    assert one.ledger.reads_texts and two.parsed_replies == 20
