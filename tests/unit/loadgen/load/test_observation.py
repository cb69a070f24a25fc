"""What a service said before a run and no longer says after it: that is a loss, and not "unknown"."""

from __future__ import annotations

import msgspec
import pytest

from loadgen.budgets import parse_budgets
from loadgen.errors import LoadgenError
from loadgen.gate.run_gate import judge
from loadgen.load import observation
from loadgen.load.exposition import ITEMS, REQUESTS, parse_exposition
from loadgen.results import runfile
from loadgen.results.runfile import RequestCounter
from loadgen.scenario import Target, parse_target
from tests.proof.null_server import Behaviour, null_server
from tests.unit.loadgen.runs import good_run

BUDGETS = parse_budgets("[models.null]\nmean_ms = 250\n", "b")


def target(port: int) -> Target:
    return parse_target(f"http://127.0.0.1:{port}")


def run_with(service: runfile.Service) -> runfile.RunFile:
    run = good_run(service=service)
    return msgspec.structs.replace(run, configuration=msgspec.structs.replace(run.configuration, model="null"))


def test_a_service_that_is_gone_is_not_one_without_counters() -> None:
    with null_server() as server:
        address = target(server.port)
        first = observation.before(address, "null", (address,))
    service = observation.after(first, address, "null", (address,), answered=1000)
    assert service.requests == RequestCounter(REQUESTS, 0.0, 0.0, None)
    assert service.workers_after is None
    verdict = judge(BUDGETS, run_with(service))
    assert verdict.exit_code == 20
    assert verdict.reasons[0].startswith("The service counted unknown (a restart) requests and the generator had 1000")
    assert verdict.reasons[1].startswith("There were 1 workers, and when the run was over the service did not say")


def test_a_consumer_that_is_gone_is_not_one_without_a_counter() -> None:
    with null_server() as server:
        with null_server() as consumer:
            addresses = (target(server.port), target(consumer.port))
            first = observation.before(addresses[0], "null", addresses)
        service = observation.after(first, addresses[0], "null", addresses, answered=0)
    assert service.requests == RequestCounter(REQUESTS, 0.0, 0.0, None)  # it counts these, too, as a front end does
    assert service.items == RequestCounter(ITEMS, 0.0, 0.0, None)
    assert any("The consumers counted unknown" in reason for reason in judge(BUDGETS, run_with(service)).reasons)


def test_what_a_service_never_said_is_noted_and_not_judged() -> None:
    with null_server(Behaviour(metrics=False)) as server:
        address = target(server.port)
        first = observation.before(address, "null", (address,))
        service = observation.after(first, address, "null", (address,), answered=1000)
    assert (service.requests, service.items, service.workers_after) == (None, None, 1)
    verdict = judge(BUDGETS, run_with(service))
    assert verdict.exit_code == 0
    assert sum("was not compared with the generator's" in note for note in verdict.notes) == 2
    silent = judge(BUDGETS, run_with(msgspec.structs.replace(service, card=None, workers_after=None)))
    assert silent.exit_code == 0
    assert len(silent.notes) == len(verdict.notes) + 2  # which model it was, and how many workers lived


@pytest.mark.parametrize("metrics", [True, False])
def test_an_address_that_was_named_must_have_metrics(metrics: bool) -> None:
    with null_server() as server, null_server(Behaviour(metrics=metrics)) as other:
        addresses = (target(server.port), target(other.port))
        if metrics:
            assert observation.before(addresses[0], "null", addresses).metrics[1]
        else:
            with pytest.raises(LoadgenError, match=rf"Cannot read http://127.0.0.1:{other.port}/metrics\."):
                observation.before(addresses[0], "null", addresses)


OTHER = 'headrace_requests_in_flight{model="null"} 0'


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, None),
        (None, f"{REQUESTS} 5", None),  # nobody knows where it began
        (OTHER, OTHER, None),
        (OTHER, f"{REQUESTS} 5", RequestCounter(REQUESTS, 0.0, 5.0, 5.0)),
        (f"{REQUESTS} 3", f"{REQUESTS} 5", RequestCounter(REQUESTS, 3.0, 5.0, 2.0)),
        (f"{REQUESTS} 3", f"{REQUESTS} 1", RequestCounter(REQUESTS, 3.0, 1.0, None)),
        (f"{REQUESTS} 3", OTHER, RequestCounter(REQUESTS, 3.0, 3.0, None)),  # a front end that was started anew
        (f"{REQUESTS} 3", None, RequestCounter(REQUESTS, 3.0, 3.0, None)),
    ],
)
def test_a_counter_before_and_after(before: str | None, after: str | None, expected: RequestCounter | None) -> None:
    first, last = (None if text is None else parse_exposition(text) for text in (before, after))
    assert observation._counter(REQUESTS, "null", first, last) == expected


def test_several_front_ends_count_together() -> None:
    first = tuple(parse_exposition(f"{REQUESTS} {count}") for count in (3, 10))
    last = tuple(parse_exposition(f"{REQUESTS} {count}") for count in (5, 11))
    # The port that they share says nothing of itself.
    assert observation._requests("null", (None, *first), (None, *last)) == RequestCounter(REQUESTS, 13.0, 16.0, 3.0)
    anew = (None, last[0], parse_exposition(f"{REQUESTS} 1"))
    assert observation._requests("null", (None, *first), anew) == RequestCounter(REQUESTS, 13.0, 6.0, None)
