"""PendingReplies: whose end an entry's end is."""

from __future__ import annotations

import pytest

from producer_api.queue.admission import refusal
from producer_api.queue.pending import PendingReply
from producer_api.queue.reply_reader import FEWEST_PER_SWEEP, MANY_BYTES, MOST_PER_SWEEP, lookups_after
from shared.wire.outcomes import CANCELLED, RequestError


def test_an_entry_that_ended_before_it_was_known_ends_its_waiter_alone() -> None:
    """The answer that names the entry and the news of its end come on different connections, in either order."""
    ends: list[bytes | RequestError] = []
    mine, other, told_first = (PendingReply("a", ends.append, 0.0) for _ in range(3))
    mine.entered(b"5-0")
    for pending in (mine, other, told_first):
        pending.entry_ended(b"5-0", b"end")
    assert ends == [b"end"]
    other.entered(b"6-0")
    told_first.entered(b"5-0")
    assert ends == [b"end", b"end"]
    assert (mine.ended, other.ended, told_first.ended) == (True, False, True)


@pytest.mark.parametrize("known_first", [True, False])
def test_one_that_joined_hears_of_the_end_too(known_first: bool) -> None:
    ends: list[bytes | RequestError] = []
    pending = PendingReply("a", ends.append, 1.0)
    error = refusal(CANCELLED, "The request was cancelled.", "a")
    if known_first:
        pending.join(b"5-0")
    pending.entry_ended(b"5-0", error)
    if not known_first:
        pending.join(b"5-0")
    assert ends == [error]
    pending.entry_ended(b"5-0", error)
    assert ends == [error]


def test_large_replies_are_asked_for_a_few_at_a_time() -> None:
    """Small ones soon by the hundred, large ones one by one, and all between about so many bytes."""
    count = FEWEST_PER_SWEEP
    for _ in range(10):
        count = lookups_after(count, count * 100)
    assert count == MOST_PER_SWEEP
    for _ in range(10):
        count = lookups_after(count, count * (15 << 20))
    assert count == 1
    for _ in range(10):
        count = lookups_after(count, count * (1 << 20))
    assert 1 << 20 <= count * (1 << 20) <= 2 * MANY_BYTES
