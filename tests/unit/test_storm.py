"""The storm's own parts: an account that lets nothing pass, and a plan that its seed gives again."""

from __future__ import annotations

import os
import random
import socket
from dataclasses import replace
from typing import Any

import pytest

from producer_api.inference.request_ids import id_of_key
from tests.storm.census import Census, take
from tests.storm.inquiry import KEPT_MS, Circumstances, Look, Why, id_of
from tests.storm.ledger import Case, End, Kind, Ledger, Task, answer_to, body_of, nonce_of
from tests.storm.plan import Fault, Hostility, Step, draw


def sent(ledger: Ledger, kind: Kind = Kind.OWN, task: Task = Task.PLAIN) -> Case:
    return ledger.send(kind, task, "*", 1000, 0.0, padding=5)


def test_an_account_without_a_fault_is_clean() -> None:
    ledger = Ledger()
    for end in (End.ANSWERED, End.REFUSED, End.EXPIRED, End.DEAD, End.ORPHANED):
        case = sent(ledger)
        assert ledger.check(case, answer_to(case.body))
        ledger.close(case, end, 1.0)
    assert ledger.is_clean()
    assert ledger.document()["sent"] == 5


def test_what_is_open_or_lost_is_no_clean_account() -> None:
    ledger = Ledger()
    case = sent(ledger)
    assert not ledger.is_clean()
    ledger.close(case, End.LOST, 1.0)
    assert not ledger.is_clean()
    assert "is lost" in ledger.broken[0]


def test_an_answer_to_another_is_told_from_a_wrong_one() -> None:
    ledger = Ledger()
    mine, other = sent(ledger), sent(ledger)
    assert not ledger.check(mine, answer_to(other.body))
    assert (ledger.crossed, ledger.wrong) == (1, 0)
    for content in (b"", answer_to(mine.body)[:-1], answer_to(body_of(Task.PLAIN, "n9999999", 5)), mine.body):
        assert not ledger.check(mine, content)
    assert (ledger.crossed, ledger.wrong) == (1, 4)
    assert not ledger.is_clean()


def test_a_second_end_is_a_breach() -> None:
    ledger = Ledger()
    case = sent(ledger)
    ledger.close(case, End.ANSWERED, 1.0)
    ledger.close(case, End.EXPIRED, 2.0)
    assert ledger.breaches["two ends"] == 1
    assert (case.end, ledger.ends[End.EXPIRED]) == (End.ANSWERED, 0)


def test_names_in_bodies() -> None:
    assert nonce_of(body_of(Task.KILL, "n0000001", 3)) == "n0000001"
    assert nonce_of(body_of(Task.PLAIN, "")) == ""
    assert [nonce_of(body) for body in (b"", b"x", bytes(50))] == ["", "", ""]


def plan(seed: int, steps: int = 500) -> list[Step]:
    rng = random.Random(seed)
    return [draw(rng, ["c0", "c1"], ["f0", "f1"], ["c0", "f0"]) for _ in range(steps)]


def test_the_same_seed_is_the_same_storm() -> None:
    assert plan(1) == plan(1)
    assert plan(1) != plan(2)


def test_everything_happens_and_who_is_spared_is_not_killed() -> None:
    steps = plan(1)
    assert {step.fault for step in steps} == set(Fault)
    assert {step.hostility for step in steps} == {None, *Hostility}
    killed = {step.whom for step in steps if step.fault in (Fault.KILL_CONSUMER, Fault.KILL_FRONT_END)}
    paused = {step.whom for step in steps if step.fault in (Fault.PAUSE_CONSUMER, Fault.PAUSE_FRONT_END)}
    assert (killed, paused) == ({"c1", "f1"}, {"c0", "c1", "f0", "f1"})


@pytest.mark.parametrize(
    ("now", "more"),
    [
        (Census(4, 0, 0, 10, 999), {}),
        (Census(7, 2, 2, 12, 0), {"connections to Redis": 1, "connections of clients": 2, "descriptors": 2}),
        (Census(7, 1, 0, 10, 0), {}),
        (Census(3, 0, 0, 9, 0), {}),
    ],
)
def test_what_is_more_than_before(now: Census, more: dict[str, int]) -> None:
    assert now.over(Census(4, 0, 0, 10, 100)) == more


def test_a_census_tells_connections_from_other_descriptors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        before = take(os.getpid(), port)
        one, other = socket.socketpair()
        with socket.create_connection(("127.0.0.1", port)), socket.socket(), one, other:
            now = take(os.getpid(), port)
        assert [now.redis - before.redis, now.cut - before.cut, now.other - before.other] == [1, 1, 2]


def look(**what: Any) -> Look:
    return replace(Look(now_ms=10_000.0, entry=b"1-0", deadline_ms=9_990, is_there=False, left_ms=None), **what)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({}, Why.EXPIRED),
        ({"is_there": True}, Why.UNDER_WAY),
        ({"deadline_ms": 10_900}, Why.EXPIRED),
        ({"deadline_ms": 11_100}, Why.VANISHED),
        ({"deadline_ms": 11_100, "is_there": True}, Why.UNDER_WAY),
        ({"deadline_ms": 11_100, "left_ms": KEPT_MS + 3_900}, Why.JUST_ANSWERED),
        ({"left_ms": KEPT_MS + 1_000}, Why.NOT_TOLD),
        ({"entry": b"", "deadline_ms": 0}, Why.NOT_ADMITTED),
        ({"entry": b"", "deadline_ms": 0, "left_ms": KEPT_MS + 1_000}, Why.NOT_TOLD),
    ],
)
def test_what_redis_knows_says_why_a_request_was_not_answered(what: dict[str, Any], why: Why) -> None:
    assert look(**what).why(ttl_ms=4_000, is_remembered=True) is why


def test_of_an_id_made_up_by_a_front_end_nothing_is_remembered() -> None:
    assert look(entry=b"", deadline_ms=0).why(ttl_ms=4_000, is_remembered=False) is Why.FORGOTTEN


HAPPENED = Circumstances(age_s=4.0, ttl_s=4.0, replied_s=3.0, service_s=0.1, calm_s=0.1, overtakers=500)


@pytest.mark.parametrize("why", [why for why in Why if why is not Why.VANISHED])
def test_what_has_happened_excuses_whoever_was_late(why: Why) -> None:
    assert HAPPENED.tolerate(why)
    assert replace(HAPPENED, age_s=5.5, service_s=60.0, calm_s=60.0).tolerate(why), "the machine was busy"


@pytest.mark.parametrize("why", list(Why))
def test_in_a_calm_nothing_excuses_who_was_overtaken(why: Why) -> None:
    calm = replace(HAPPENED, calm_s=10.5, service_s=10.5)
    assert not calm.tolerate(why)
    if why not in (Why.VANISHED, Why.NOT_TOLD, Why.NOT_ADMITTED):
        assert replace(calm, overtakers=3).tolerate(why), "everything was slow"


def test_what_happens_to_consumers_excuses_no_front_end() -> None:
    assert not replace(HAPPENED, service_s=4.6).tolerate(Why.NOT_TOLD)
    assert replace(HAPPENED, service_s=4.4).tolerate(Why.NOT_TOLD)
    assert replace(HAPPENED, service_s=60.0, age_s=2.0).tolerate(Why.NOT_TOLD), "the reply was there before the request"
    assert not replace(HAPPENED, service_s=6.5).tolerate(Why.NOT_ADMITTED)
    assert replace(HAPPENED, service_s=6.5).tolerate(Why.EXPIRED)


def test_nothing_excuses_an_entry_that_goes_too_early() -> None:
    assert not HAPPENED.tolerate(Why.VANISHED)


def test_who_overtakes_was_sent_later_and_answered_in_the_same_lane() -> None:
    ledger = Ledger()
    for number, kind in enumerate([Kind.OWN, Kind.MADE, Kind.FAST, Kind.SIMPLE]):
        case = ledger.send(kind, Task.PLAIN, "*", 1000, float(number))
        ledger.close(case, End.ANSWERED, 9.0)
    assert [ledger.overtakers(sent_s) for sent_s in (-1.0, 0.0, 1.0, 2.0, 3.0)] == [3, 2, 1, 1, 0]


def test_a_request_under_a_key_is_known_by_what_the_front_end_makes_of_it() -> None:
    ledger = Ledger()
    own, key = sent(ledger), sent(ledger, Kind.KEY)
    assert id_of(own) == own.request_id
    assert id_of(key) == id_of_key(key.request_id.encode())
