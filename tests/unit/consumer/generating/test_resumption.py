"""What a record says to the consumer that goes on with it."""

from __future__ import annotations

from consumer.pipeline.generating.resumption import NOTHING, PROVEN_TOKENS, resumption_of
from shared.wire.frames import ALONE, DEADLINE, FIRST, HANDED_OVER, Frame, TokenLogprob, pack_tokens


def frames(*parts: tuple[int, int, str, int], finish: str = "") -> list[Frame]:
    """Frames of an attempt, a number of tokens, a text and flags each."""
    made = [
        Frame("a", seq, attempt, pack_tokens(range(count)), text, flags)
        for seq, (attempt, count, text, flags) in enumerate(parts)
    ]
    last = made.pop()
    return [*made, Frame("a", last.seq, last.attempt, last.tokens, last.text, last.flags, finish)]


def test_no_frames_are_nothing() -> None:
    assert resumption_of([], 0) == NOTHING or resumption_of([], 0).tokens == []
    assert resumption_of([], 0).is_unproven


def test_tokens_and_text_are_put_together() -> None:
    past = resumption_of(frames((1, 2, "ab", 0), (1, 1, "", 0), (1, 2, "c", 0)), 77)
    assert (past.seq, past.attempt, past.tokens, past.text) == (3, 1, [0, 1, 0, 0, 1], "abc")
    assert (past.lost, past.is_unproven, past.finish, past.began_ms) == (1, False, "", 77)


def test_log_probabilities_are_put_together() -> None:
    likely = TokenLogprob(1, "a", -1.0)
    made = [Frame("a", seq, 1, pack_tokens([1]), "a", 0, "", (likely,)) for seq in range(2)]
    assert resumption_of(made, 0).logprobs == [likely, likely]


def test_an_attempt_that_made_few_tokens_is_unproven() -> None:
    assert resumption_of(frames((1, PROVEN_TOKENS - 1, "x", 0)), 0).is_unproven
    assert not resumption_of(frames((1, PROVEN_TOKENS, "x", 0)), 0).is_unproven


def test_only_the_last_attempt_counts_for_that() -> None:
    """Whatever the first has made, the second ended its consumer with nothing to show for it."""
    past = resumption_of(frames((1, 50, "x", 0), (2, 0, "", FIRST), (2, 1, "y", 0)), 0)
    assert (past.attempt, past.lost, past.is_unproven) == (2, 2, True)
    past = resumption_of(frames((1, 0, "x", 0), (2, 0, "", FIRST | ALONE), (2, 9, "y", 0)), 0)
    assert (past.attempt, past.lost, past.is_unproven) == (2, 2, False)


def test_what_was_handed_over_ended_no_consumer() -> None:
    past = resumption_of(frames((1, 1, "x", HANDED_OVER)), 0)
    assert (past.lost, past.is_unproven) == (0, False)
    past = resumption_of(frames((1, 1, "x", HANDED_OVER), (2, 0, "", FIRST)), 0)
    assert (past.lost, past.is_unproven) == (1, True)
    past = resumption_of(frames((1, 9, "x", 0), (2, 9, "", FIRST), (2, 0, "", HANDED_OVER), (3, 9, "", FIRST)), 0)
    assert past.lost == 2


def test_the_last_frame_says_that_it_is_complete() -> None:
    assert resumption_of(frames((1, 1, "x", 0), finish="stop"), 0).finish == "stop"
    past = resumption_of(frames((1, 1, "x", 0), (1, 0, "", DEADLINE), finish="length"), 0)
    assert (past.finish, past.missed_deadline) == ("length", True)
