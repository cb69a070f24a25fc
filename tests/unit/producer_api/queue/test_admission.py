"""Admission: what the front end can tell without asking anybody."""

from __future__ import annotations

import pytest

from producer_api.load.wait_estimate import Backlog, Service
from producer_api.queue.admission import RETRY_AFTER_S, admit, check_wait, find_model, refusal
from producer_api.queue.catalogue import is_memory_full, is_replica
from producer_api.queue.interface import Catalogue, ModelState
from shared.state.desired_state import Serving
from shared.wire.outcomes import (
    ALL,
    DRAINING,
    LOADING,
    NO_WORKER,
    QUEUE_OUT_OF_MEMORY,
    QUEUE_UNAVAILABLE,
    UNKNOWN_MODEL,
    WAIT_TOO_LONG,
    Outcome,
    RequestError,
)
from tests.fakes import ECHO

SERVED = ModelState("echo", ECHO, workers=1, queued=3)
OPEN = Catalogue({"echo": SERVED}, redis_ok=True)


def refused(catalogue: Catalogue, model: str = "echo") -> RequestError:
    with pytest.raises(RequestError) as caught:
        admit(catalogue, model, "any")
    return caught.value


def test_a_model_that_is_served_is_let_in() -> None:
    assert admit(OPEN, "echo", "any") is SERVED
    assert find_model(OPEN, "echo", "any") is SERVED


@pytest.mark.parametrize(
    ("catalogue", "model", "outcome"),
    [
        (OPEN, "cat", UNKNOWN_MODEL),
        (Catalogue({}, redis_ok=True), "echo", UNKNOWN_MODEL),
        (Catalogue(), "echo", QUEUE_UNAVAILABLE),
        (Catalogue({"echo": SERVED}, redis_ok=False), "echo", QUEUE_UNAVAILABLE),
        (Catalogue({"echo": SERVED}, redis_ok=True, memory_full=True), "echo", QUEUE_OUT_OF_MEMORY),
        (Catalogue({"echo": ModelState("echo", ECHO, workers=0)}, redis_ok=True), "echo", NO_WORKER),
        (Catalogue({"echo": ModelState("echo", None, workers=2)}, redis_ok=True), "echo", NO_WORKER),
        (Catalogue({"echo": ModelState("echo", ECHO, ready_in_s=4)}, redis_ok=True), "echo", LOADING),
        (Catalogue({"echo": ModelState("echo", None, ready_in_s=4)}, redis_ok=True), "echo", LOADING),
        (Catalogue({"echo": ModelState("echo", ECHO, ready_in_s=4)}, redis_ok=False), "echo", QUEUE_UNAVAILABLE),
        (
            Catalogue({"echo": ModelState("echo", ECHO, serving=Serving.DRAINING, ready_in_s=4)}, redis_ok=True),
            "echo",
            DRAINING,
        ),
        (Catalogue({"echo": ModelState("echo", ECHO, 1, serving=Serving.DRAINING)}, redis_ok=True), "echo", DRAINING),
    ],
)
def test_everything_else_is_refused_for_its_reason(catalogue: Catalogue, model: str, outcome: Outcome) -> None:
    assert refused(catalogue, model).outcome is outcome


def test_a_paused_model_takes_requests() -> None:
    paused = ModelState("echo", ECHO, workers=1, serving=Serving.PAUSED)
    assert admit(Catalogue({"echo": paused}, redis_ok=True), "echo", "any") is paused


def test_a_long_wrong_name_is_not_repeated_in_full() -> None:
    assert len(refused(OPEN, "x" * 10_000).message) < 200


@pytest.mark.parametrize("outcome", ALL, ids=lambda outcome: outcome.code)
def test_only_what_may_succeed_later_says_when(outcome: Outcome) -> None:
    error = refusal(outcome, "No.", "id-1")
    assert error.retry_after_s == (RETRY_AFTER_S if outcome.retry else None)
    assert error.request_id == "id-1"


def test_who_would_wait_too_long_is_told_when_to_come_back() -> None:
    backlog, service = Backlog(), Service(8, 1.0)
    backlog.service = service
    backlog.told(160, 100.0)
    with pytest.raises(RequestError) as caught:
        check_wait(backlog, service, 10.0, 100.0)
    # 8 s of 10 are 7 batches ahead and its own, 56 requests; half of them are left when 132 are done, 8 a second.
    assert (caught.value.outcome, caught.value.retry_after_s) == (WAIT_TOO_LONG, 17)
    check_wait(backlog, service, 10.0, 114.0)
    check_wait(backlog, service, 60.0, 100.0)


@pytest.mark.parametrize(
    ("info", "full"),
    [
        (b"# Memory\r\nused_memory:96\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction\r\n", True),
        (b"used_memory:95\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction\r\n", False),
        (b"used_memory:96\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n", False),
        (b"used_memory:96\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n", False),
        (b"used_memory:much\r\nmaxmemory:100\r\n", False),
        (b"used_memory:96\r\n", False),
        (None, False),
        (ValueError("NOPERM"), False),
    ],
)
def test_a_redis_that_is_nearly_full_is_noticed(info: object, full: bool) -> None:
    assert is_memory_full(info) is full


@pytest.mark.parametrize(
    ("info", "replica"),
    [
        (b"# Replication\r\nrole:slave\r\nmaster_host:x\r\n", True),
        (b"# Replication\r\nrole:master\r\nconnected_slaves:1\r\n", False),
        (ValueError("NOPERM"), False),
    ],
)
def test_a_server_that_was_demoted_is_noticed(info: object, replica: bool) -> None:
    assert is_replica(info) is replica
