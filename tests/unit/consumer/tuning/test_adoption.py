"""Whose turn it is to search and to switch: two consumers of one model on one folder, on a queue in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer.switching.adoption import Adoptable, Adoption
from consumer.tuning.store import Store
from consumer.tuning.tuner import SearchRequest, Tuner
from shared.settings import Settings
from shared.state.desired_state import DesiredPrecision
from tests.fake_stream import InMemoryLane, InMemoryStream
from tests.unit.consumer.parts import CARD
from tests.unit.consumer.tuning.test_store import put, store


class Clerk(Tuner):
    """Takes search_requests down and starts nothing."""

    def __init__(self) -> None:
        super().__init__(lambda target: None, frozenset())
        self.search_requests: list[SearchRequest] = []

    def begin(self, search_request: SearchRequest) -> None:
        """Take it down."""
        self.search_requests.append(search_request)
        self._tried.add(search_request.place)


class Bench:
    """Two consumers, and what they were told."""

    def __init__(self, folder: Path, searches: bool = True) -> None:
        self.store: Store = store(folder)
        self.lane = InMemoryLane()
        self.lane.desired_precision = DesiredPrecision("fp32", "w1")
        self.halts: list[str] = []
        self.clerks = {"one": Clerk(), "two": Clerk()}
        self.adoptions = {name: self._adoption(name, clerk, searches) for name, clerk in self.clerks.items()}

    def _adoption(self, name: str, clerk: Clerk, searches: bool) -> Adoption:
        stream = InMemoryStream(self.lane, Settings(), name)
        return Adoption(stream, clerk, lambda: self.halts.append(name), searches)

    def running(self, wants_search: bool = True, but_not: int | None = None) -> Adoptable:
        """What a consumer knows that loads now."""
        search_request = SearchRequest("m", "auto", 1, self.store.folder, but_not)
        return Adoptable(self.store, self.store.stamp(), search_request, wants_search)

    def look(self, running: Adoptable | None) -> None:
        """Both look."""
        for adoption in self.adoptions.values():
            adoption.look(running)

    @property
    def searches(self) -> list[str]:
        """Who has begun one."""
        return [name for name, clerk in self.clerks.items() for _ in clerk.search_requests]


def test_without_a_model_nothing_happens(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.look(None)
    assert (bench.searches, bench.halts) == ([], [])


def test_nobody_begins_a_search_while_another_one_holds_the_lock(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    running = bench.running()
    with bench.store.lock():
        for _ in range(3):
            bench.look(running)
    assert bench.searches == []
    bench.adoptions["two"].look(running)  # it came to nothing, so the next one tries
    assert bench.searches == ["two"]


def test_who_has_searched_in_vain_does_not_search_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    running = bench.running()
    for _ in range(5):
        bench.look(running)
    assert bench.searches == ["one", "two"]


def test_what_was_found_is_taken_over_one_after_the_other(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    running = bench.running()
    put(bench.store)
    for _ in range(3):
        bench.look(running)
    assert bench.halts == ["one"]
    assert bench.adoptions["one"].is_under_way
    bench.adoptions["one"].finish()
    bench.adoptions["one"].look(bench.running(wants_search=False))
    bench.adoptions["two"].look(running)
    assert bench.halts == ["one", "two"]
    assert bench.searches == []


def test_a_damaged_entry_is_searched_for_and_not_switched_to(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    put(bench.store)
    (bench.store.folder / "entry.json").write_text("{")
    running = bench.running(but_not=bench.store.stamp())
    bench.look(running)
    assert (bench.searches, bench.halts) == (["one", "two"], [])
    assert bench.clerks["one"].search_requests[0].but_not == bench.store.stamp()
    put(bench.store)
    bench.look(running)
    assert bench.halts == ["one"]


def test_one_that_is_served_is_left_alone_and_another_one_that_comes_is_taken_over(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    put(bench.store)
    running = bench.running(wants_search=False)
    bench.look(running)
    assert (bench.searches, bench.halts) == ([], [])
    put(bench.store, b"searched for again")
    bench.look(running)
    assert bench.halts == ["one"]


def test_an_entry_that_is_damaged_while_it_is_served_is_no_reason_to_drain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path)
    put(bench.store)
    running = bench.running(wants_search=False)
    (bench.store.folder / "entry.json").write_text("{")
    for _ in range(3):
        bench.look(running)
    assert (bench.searches, bench.halts) == ([], [])
    assert len(caplog.records) == 2  # once for each consumer
    put(bench.store)
    bench.look(running)
    assert bench.halts == ["one"]


def test_off_searches_nothing_and_takes_over_all_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path, searches=False)
    running = bench.running()
    bench.look(running)
    assert bench.searches == []
    put(bench.store)
    bench.look(running)
    assert bench.halts == ["one"]


def test_a_card_says_what_became_of_a_search(tmp_path: Path) -> None:
    from msgspec.structs import replace

    from shared.state.cards import Tuning

    bench = Bench(tmp_path)
    adoption, clerk = bench.adoptions["one"], bench.clerks["one"]
    searching, tuned = replace(CARD, tuning=Tuning("searching")), replace(CARD, tuning=Tuning("tuned"))
    assert adoption.told_of(searching) is searching
    clerk.failure = "The search came to nothing."
    assert adoption.told_of(searching).tuning == Tuning("refused", "The search came to nothing.")
    assert adoption.told_of(tuned) is tuned
    assert adoption.told_of(CARD) is CARD
