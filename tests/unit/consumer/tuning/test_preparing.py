"""What an operator wishes for is searched for while the model still serves, once, and the answer is a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from consumer.switching.preparation import Preparation, Sought
from consumer.tuning.tuner import SearchRequest
from tests.unit.consumer.tuning.test_adoption import Clerk
from tests.unit.consumer.tuning.test_store import FINDING, put, store


class Bench:
    """A consumer that is asked for int8."""

    def __init__(self, folder: Path) -> None:
        self.store, self.clerk, self.asked = store(folder), Clerk(), 0
        self.preparation = Preparation(self.clerk, self._seek)

    def _seek(self, precision: str) -> Sought | None:
        self.asked += 1
        return Sought(self.store, SearchRequest("m", precision, 1, self.store.folder))


@pytest.mark.parametrize("precision", ["auto", "fp32", "tf32", "fp16", "bf16"])
def test_what_torch_has_needs_no_search(tmp_path: Path, precision: str) -> None:
    bench = Bench(tmp_path)
    assert bench.preparation.refusal(precision) == ""
    assert (bench.asked, bench.clerk.search_requests) == (0, [])


def test_where_no_search_can_help_nothing_is_waited_for() -> None:
    assert Preparation(Clerk(), lambda precision: None).refusal("int8") == ""


def test_it_is_had_once_it_was_found(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with bench.store.lock():
        assert bench.preparation.refusal("int8") is None  # another consumer searches
    assert bench.clerk.search_requests == []
    assert bench.preparation.refusal("int8") is None
    assert [search_request.precision for search_request in bench.clerk.search_requests] == ["int8"]
    put(bench.store, finding=replace(FINDING, precision="int8"))
    assert bench.preparation.refusal("int8") == ""
    assert bench.asked == 1


def test_a_result_that_is_none_is_the_sentence_of_the_search(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    put(bench.store, finding=replace(FINDING, refusal="int8 is not used. It is too far off."))
    assert bench.preparation.refusal("int8") == "precision int8 is refused: int8 is not used. It is too far off."
    assert bench.clerk.search_requests == []


def test_a_search_that_failed_is_not_repeated(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.preparation.refusal("int8") is None
    bench.clerk.failure = "The search ended by signal 9."
    said = "precision int8 needs a search, which failed. The search ended by signal 9."
    assert [bench.preparation.refusal("int8") for _ in range(3)] == [said] * 3
    assert len(bench.clerk.search_requests) == 1
