"""Who sits where, and what a step computes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.generation.engine import Sequence
from consumer.generation.seats import Seats, Work, halves, parts, shares
from consumer.generation.text import TextStream


def enter(seats: Seats, id: str, prompt: int) -> None:
    seats.enter(Sequence(id, tuple(range(prompt)), 10), TextStream(lambda tokens: "", ()))


@given(st.integers(0, 2**32))
def test_whoever_decodes_lies_in_the_lowest_slots_and_keeps_what_it_has(seed: int) -> None:
    """Slots are played through as lists of what was written; each sequence must find its own tokens, in order."""
    drawn, seats, number = random.Random(seed), Seats(5), 0
    memory: list[list[object]] = [[None] * 64 for _ in range(5)]
    for _ in range(40):
        while seats.free and drawn.random() < 0.6:
            enter(seats, f"s{number}", drawn.randint(1, 20))
            number += 1
        for move in seats.arrange():
            kept = memory[move.target][: move.count]
            memory[move.target][: move.count] = memory[move.source][: move.count]
            if move.is_swap:
                memory[move.source][: move.count] = kept
        work = seats.work(16, 4)
        assert [one.seat.slot for one in work if one.decodes] == list(range(sum(one.decodes for one in work)))
        assert len({one.seat.slot for one in work}) == len(work)
        for one in work:
            seat, end = one.seat, one.start + one.count
            memory[seat.slot][one.start : end] = [(seat.sequence.id, at) for at in range(one.start, end)]
            seat.read += one.count
            assert memory[seat.slot][: seat.read] == [(seat.sequence.id, at) for at in range(seat.read)]
            if seat.unread == 0:
                seat.tokens.append(0)
                if drawn.random() < 0.2:
                    seats.leave(seat.sequence.id)


@given(st.lists(st.integers(2, 60), max_size=8), st.integers(1, 200))
def test_a_budget_is_used_up_and_never_exceeded(unread: list[int], budget: int) -> None:
    counts = shares(unread, budget)
    assert sum(counts) == min(budget, sum(unread))
    assert all(0 <= count <= most for count, most in zip(counts, unread, strict=True))
    if unread:
        assert counts[0] >= min(unread[0], (budget + 1) // 2)  # the oldest one always goes on


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    assert shares([600, 12], 32) == [20, 12]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 40))
def test_parts_are_small_enough_and_in_order(counts: list[int], most: int) -> None:
    seats = Seats(8)
    for number, count in enumerate(counts):
        enter(seats, f"s{number}", count)
    work = [Work(seat, 0, count, False) for seat, count in zip(seats, counts, strict=True)]
    cut = parts(work, most)
    assert all(sum(one.count for one in part) <= most for part in cut)
    for seat in seats:
        at = 0
        for one in (one for part in cut for one in part if one.seat is seat):
            assert one.start == at
            at += one.count
        assert at == len(seat.tokens)


def test_a_single_token_cannot_be_cut() -> None:
    seats = Seats(1)
    enter(seats, "a", 1)
    assert halves([Work(next(iter(seats)), 0, 1, True)]) is None


def test_a_full_house() -> None:
    seats = Seats(1)
    enter(seats, "a", 3)
    with pytest.raises(RuntimeError):
        enter(seats, "b", 3)
