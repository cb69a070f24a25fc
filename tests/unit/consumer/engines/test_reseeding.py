"""Seeds for libraries whose random numbers come one after another."""

from __future__ import annotations

from consumer.generation.engine import MOST_SEED
from consumer.generation.reseeding import seed_from


def test_a_seed_begins_as_it_is_and_is_another_one_after_each_token() -> None:
    assert seed_from(7, 0) == 7
    assert len({seed_from(7, made) for made in range(1000)}) == 1000


def test_every_seed_that_may_be_asked_for_is_one_that_libraries_take() -> None:
    for seed in (0, 1, MOST_SEED, MOST_SEED // 2):
        for made in (0, 1, 100_000):
            assert 0 <= seed_from(seed, made) < 1 << 63
