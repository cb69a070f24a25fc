"""Batches counted in tokens: examples, then rules that hold for any texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import Budget, Load, PaddedTokenBudget, TokenBudget

NEVER_S = float("inf")


@dataclass(frozen=True)
class Text:
    name: int
    load: Load
    arrived_s: float = 0.0
    deadline_s: float = NEVER_S


def texts(*lengths: int) -> list[Text]:
    return [Text(name, Load(1, length, length)) for name, length in enumerate(lengths)]


def filled(budget: Budget, waiting: Sequence[Text]) -> Batcher[Text]:
    batcher: Batcher[Text] = Batcher(budget, 0.0, BatchCost())
    for text in waiting:
        batcher.add(text)
    return batcher


def batches(budget: Budget, waiting: Sequence[Text], now_s: float = 1.0) -> list[list[int]]:
    batcher, found = filled(budget, waiting), []
    while (batch := batcher.take_due(now_s)) is not None:
        found.append([text.name for text in batch.items])
    assert batcher.rows == batcher.used == 0
    return found


def test_packed_batches_are_counted_in_tokens_and_keep_the_order() -> None:
    assert batches(TokenBudget(100, 32), texts(60, 30, 20, 70, 10, 10)) == [[0, 1], [2, 3, 4], [5]]


def test_short_texts_fill_a_batch_by_their_number() -> None:
    budget = TokenBudget(1000, 3)
    assert filled(budget, texts(1, 1, 1)).used == budget.most
    assert batches(budget, texts(1, 1, 1, 1)) == [[0, 1, 2], [3]]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(TokenBudget(100, 32), [[0], [1], [2]]), (PaddedTokenBudget(100, 32), [[0, 2], [1]])],
)
def test_a_text_longer_than_the_budget_rides_alone(budget: Budget, expected: list[list[int]]) -> None:
    assert batches(budget, texts(10, 500, 10)) == expected


def test_padded_batches_hold_neighbours_in_length() -> None:
    # Together, 10 and 100 would be computed as 200.
    assert batches(PaddedTokenBudget(200, 32), texts(10, 100, 12, 90, 11)) == [[0, 2, 4], [1, 3]]


def test_the_oldest_is_in_every_batch_so_that_a_long_text_does_not_starve() -> None:
    batcher = filled(PaddedTokenBudget(40, 32), texts(10, 40, 10, 10, 10, 10))
    first = batcher.take_due(1.0)
    for text in texts(*[10] * 40):
        batcher.add(text)
    second = batcher.take_due(1.0)
    assert first is not None
    assert second is not None
    assert [text.name for text in first.items] == [0, 2, 3, 4]
    assert [text.load.longest for text in second.items] == [40]


def test_what_has_priority_is_served_first() -> None:
    batcher = filled(PaddedTokenBudget(20, 32), texts(10, 10, 10))
    batcher.add(Text(7, Load(1, 19, 19)), priority=True)
    batcher.add(Text(8, Load(1, 5, 5)), priority=True)
    taken = []
    while (batch := batcher.take_due(1.0)) is not None:
        taken.append([text.name for text in batch.items])
    assert taken == [[7], [8, 0], [1, 2]]


def test_more_waits_where_there_is_a_choice() -> None:
    assert TokenBudget(100, 8).room == 100
    assert PaddedTokenBudget(100, 8).room > 200


@pytest.mark.parametrize(("tokens", "rows"), [(0, 1), (1, 0), (-1, 8)])
def test_impossible_budgets_are_refused(tokens: int, rows: int) -> None:
    with pytest.raises(ValueError, match=f"{tokens} and {rows}"):
        TokenBudget(tokens, rows)


lengths = st.lists(st.integers(1, 60), max_size=40)
dead = st.lists(st.booleans(), min_size=40, max_size=40)


@given(lengths, dead, st.integers(1, 120), st.integers(1, 9))
def test_no_padded_batch_is_larger_than_its_budget(sizes: list[int], is_dead: list[bool], most: int, rows: int) -> None:
    waiting = [
        Text(name, Load(1, size, size), deadline_s=0.5 if is_dead[name] else NEVER_S) for name, size in enumerate(sizes)
    ]
    batcher = filled(PaddedTokenBudget(most, rows), waiting)
    seen: list[int] = []
    while (batch := batcher.take_due(1.0)) is not None:
        names = [text.name for text in batch.items]
        assert names == sorted(names)
        longest = max((text.load.longest for text in batch.items), default=0)
        assert len(names) <= 1 or (longest * len(names) <= most and len(names) <= rows)
        left = [text.name for text in waiting if not is_dead[text.name] and text.name not in seen]
        assert left[:1] == names[:1]  # the oldest is in it
        assert all(is_dead[text.name] for text in batch.expired)
        seen += [*names, *(text.name for text in batch.expired)]
    assert sorted(seen) == list(range(len(sizes)))


@given(lengths, st.integers(1, 120), st.integers(1, 9))
def test_packed_batches_are_full_and_in_order(sizes: list[int], most: int, rows: int) -> None:
    found = batches(TokenBudget(most, rows), texts(*sizes))
    assert [name for names in found for name in names] == list(range(len(sizes)))
    for names, following in pairwise(found):
        tokens = [sizes[name] for name in names]
        assert len(names) == 1 or (sum(tokens) <= most and len(names) <= rows)
        assert sum(tokens) + sizes[following[0]] > most or len(names) == rows
