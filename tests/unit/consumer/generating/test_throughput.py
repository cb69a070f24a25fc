"""What an engine gets done while it is full, on a virtual clock."""

from __future__ import annotations

import pytest

from consumer.pipeline.generating.throughput import Throughput


def test_prompts_and_answers_count_while_every_slot_is_taken() -> None:
    found = Throughput()
    for number in range(1000):
        found.stepped(4, 0.02, is_full=True)
        if number % 10 == 9:
            found.started(60)
    assert found.tokens_per_s == pytest.approx((40 + 60) / 0.2, rel=0.02)


def test_nothing_is_said_before_it_was_full_for_a_while() -> None:
    found = Throughput()
    for _ in range(1000):
        found.started(100)
        found.stepped(1, 0.02, is_full=False)
    assert found.tokens_per_s is None
    for _ in range(24):
        found.stepped(4, 0.02, is_full=True)
    assert found.tokens_per_s is None
    found.stepped(4, 0.03, is_full=True)
    assert found.tokens_per_s == pytest.approx(100 / 0.51, rel=0.02)
    found.stepped(1, 9.0, is_full=False)  # as if it had not been
    assert found.tokens_per_s == pytest.approx(100 / 0.51, rel=0.02)


def test_a_slower_engine_is_followed() -> None:
    found = Throughput()
    for took_s in [0.01] * 2000 + [0.1] * 400:
        found.stepped(1, took_s, is_full=True)
    assert found.tokens_per_s == pytest.approx(10, rel=0.25)


def test_a_clock_that_stands_still_says_nothing() -> None:
    found = Throughput()
    for took_s in (0.0, -1.0):
        found.stepped(5, took_s, is_full=True)
    assert found.tokens_per_s is None


def test_answers_are_as_long_as_they_are_of_late() -> None:
    found = Throughput()
    assert found.answer_tokens is None
    found.ended(100)
    assert found.answer_tokens == 100
    for _ in range(200):
        found.ended(10)
    assert found.answer_tokens == pytest.approx(10, abs=0.1)
