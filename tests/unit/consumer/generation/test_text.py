"""Tokens to text, stop strings, and the draw: the pure parts of generation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.generation import null_engine, sampling
from consumer.generation.detokeniser import Detokeniser
from consumer.generation.engine import Sampling
from consumer.generation.stops import StopMatcher
from consumer.generation.text import TextStream

SPECIAL = null_engine.END
bytes_and_specials = st.lists(st.integers(0, SPECIAL) | st.sampled_from([0xE2, 0x82, 0xAC, 0xF0, 0x9F, SPECIAL]))


@given(bytes_and_specials)
def test_pieces_join_to_the_whole_whatever_the_bytes(tokens: list[int]) -> None:
    made = Detokeniser(null_engine.decode)
    pieces = [made.push(token) for token in tokens]
    assert "".join(pieces) + made.flush() == null_engine.decode(tokens)


@given(st.text(max_size=60))
def test_valid_text_never_shows_a_broken_character(text: str) -> None:
    made = Detokeniser(null_engine.decode)
    pieces = [made.push(token) for token in text.encode(errors="replace")]
    assert "".join(pieces) == text.encode(errors="replace").decode()


@pytest.mark.parametrize("endless", [[0xE2], [0xE2, 0x82], [SPECIAL], [0x80]])
def test_what_is_decoded_again_stays_short(endless: list[int]) -> None:
    longest = 0

    def decode(tokens: list[int]) -> str:
        nonlocal longest
        longest = max(longest, len(tokens))
        return null_engine.decode(tokens)

    made = Detokeniser(decode)  # type: ignore[arg-type]
    for number in range(2000):
        made.push(endless[number % len(endless)])
    assert longest < 64


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=4), st.data())
def test_the_cut_changes_no_stop(text: str, stops: list[str], data: st.DataObject) -> None:
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    expected = text[: min(ends)[1]] if ends else text
    matcher, out, stopped, rest = StopMatcher(tuple(stops)), "", False, text
    while rest and not stopped:
        size = data.draw(st.integers(1, len(rest)))
        new, stopped = matcher.feed(rest[:size])
        out, rest = out + new, rest[size:]
        assert expected.startswith(out)
    assert stopped == bool(ends)
    assert out + ("" if stopped else matcher.flush()) == expected


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    stream = TextStream(null_engine.decode, ("x",))
    assert [stream.push(token) for token in b"a\xe2\x82"] == ["a", "", ""]
    assert stream.end() == "\N{REPLACEMENT CHARACTER}"


def logits(*values: float) -> sampling.Logits:
    return np.array(values, dtype=np.float32)


def test_draws_follow_the_distribution() -> None:
    wanted = np.array([0.5, 0.3, 0.15, 0.05])
    drawn = [
        sampling.choose(np.log(wanted).astype(np.float32), Sampling(temperature=1.0, seed=9), at) for at in range(4000)
    ]
    assert np.abs(np.bincount(drawn, minlength=4) / 4000 - wanted).max() < 0.03


@pytest.mark.parametrize(
    ("asked", "possible"),
    [
        (Sampling(temperature=1.0, top_k=2), {1, 3}),
        (Sampling(temperature=1.0, top_p=0.5), {1}),
        (Sampling(temperature=1.0, top_p=0.75), {1, 3}),
        (Sampling(temperature=1.0, top_k=3, top_p=0.999), {0, 1, 3}),
        (Sampling(temperature=1.0), {0, 1, 2, 3}),
        (Sampling(temperature=0.01), {1}),
        (Sampling(temperature=1.0, top_k=1), {1}),
    ],
)
def test_cuts_keep_the_likeliest(asked: Sampling, possible: set[int]) -> None:
    values = np.log(np.array([0.12, 0.55, 0.05, 0.28])).astype(np.float32)
    drawn = {sampling.choose(values, Sampling(asked.temperature, asked.top_p, asked.top_k, 4), at) for at in range(400)}
    assert drawn == possible


def test_a_nucleus_larger_than_the_sorted_head() -> None:
    values = np.zeros(5000, dtype=np.float32)
    drawn = {sampling.choose(values, Sampling(temperature=1.0, top_p=0.5, seed=1), at) for at in range(300)}
    assert max(drawn) < 2500  # of equal ones the first
    assert len(drawn) > 200


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_the_number_depends_on_seed_and_position_alone(seed: int, position: int) -> None:
    assert 0 <= sampling.uniform(seed, position) < 1
    assert sampling.uniform(seed, position) == sampling.uniform(seed, position)


def test_numbers_of_one_seed_are_golden() -> None:
    """Another consumer, of another version, must go on with the same draws."""
    assert [round(sampling.uniform(1, at), 12) for at in range(3)] == [0.303568034307, 0.900268453112, 0.408261825987]


def test_forbidden_tokens_are_never_drawn() -> None:
    values = sampling.allow(logits(9, 1, 2, 8, 0, 0, 0, 0, 7, 50), bytes([0b110, 0b1]))
    assert {sampling.choose(values, Sampling(temperature=2.0), at) for at in range(300)} == {1, 2, 8}
    assert sampling.choose(values, Sampling(), 0) == 8


def test_logprobs_of_the_likeliest() -> None:
    mine, best = sampling.logprobs(np.log(np.array([0.1, 0.6, 0.3], dtype=np.float32)), 2, 2)
    assert mine == pytest.approx(np.log(0.3), abs=1e-6)
    assert [token for token, _ in best] == [1, 2]
