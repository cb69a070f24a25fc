"""What a prompt's token takes in bytes, as a consumer sees it."""

from __future__ import annotations

import pytest

from consumer.queue.token_bytes import TokenBytes


def test_each_lane_has_its_own() -> None:
    measured = TokenBytes()
    assert measured.published() == ""
    for _ in range(100):
        measured.measure("gold", 500, 100)
        measured.measure("default", 9, 1)
    assert measured.published() == "default=9000,gold=5000"


def test_long_prompts_count_by_their_tokens_and_what_is_new_counts_most() -> None:
    measured = TokenBytes()
    measured.measure("a", 250, 1)
    measured.measure("a", 4250, 1000)
    assert float(measured.published().removeprefix("a=")) == pytest.approx(4490, rel=0.01)
    for _ in range(500):
        measured.measure("a", 3000, 1000)
    assert measured.published() == "a=3000"


@pytest.mark.parametrize(("message_bytes", "tokens"), [(100, 0), (100, 1000), (0, 1)])
def test_what_says_nothing_is_passed_over(message_bytes: int, tokens: int) -> None:
    """Such as a message whose text is in shared memory or in the result store."""
    measured = TokenBytes()
    measured.measure("a", message_bytes, tokens)
    assert measured.published() == ""


def test_nobody_makes_a_limit_meaningless_with_messages_of_nothing_but_a_head() -> None:
    measured = TokenBytes()
    measured.measure("a", 1_000_000, 1)
    assert measured.published() == "a=100000"
