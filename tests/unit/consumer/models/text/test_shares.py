"""Texts of one batch on several threads: who runs what, and what comes of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from consumer.models.text.rows import Row
from consumer.models.text.shares import LEAST_TOKENS, shares
from consumer.models.text.side_by_side import SideBySide
from tests.unit.consumer.models.text import tiny
from tests.unit.consumer.models.text.test_text_model import TEXTS, answer, model, numbers, of_texts


def rows(*lengths: int) -> list[Row]:
    return [Row(np.full(length, place)) for place, length in enumerate(lengths)]


@pytest.mark.parametrize(
    "lengths", [(512,), (3, 4, 5), (200, 7, 190, 40, 90), (500, 1, 1, 1), tuple(range(1, 60)), (LEAST_TOKENS,) * 2]
)
@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_every_text_is_in_one_share_and_shares_are_about_equal(lengths: tuple[int, ...], most: int) -> None:
    found = shares(lengths, most)
    assert sorted(place for share in found for place in share) == list(range(len(lengths)))
    assert 1 <= len(found) <= most
    assert all(found)
    tokens = [sum(lengths[place] for place in share) for share in found]
    assert max(tokens) - min(tokens) <= max(lengths)
    assert len(found) == 1 or sum(tokens) >= len(found) * LEAST_TOKENS


def test_shares_run_at_the_same_time_and_answers_keep_their_order() -> None:
    both = threading.Barrier(2)

    def run(share: Sequence[Row]) -> torch.Tensor:
        both.wait(20)
        assert torch.get_num_threads() == 1
        return torch.tensor([[row.ids[0], len(row.ids)] for row in share])

    side_by_side = SideBySide(run, 2)
    found = side_by_side(rows(5, 90, 40, 7, 100))
    side_by_side.close()
    assert found.tolist() == [[0, 5], [1, 90], [2, 40], [3, 7], [4, 100]]


def test_what_a_share_raises_is_raised_when_all_have_ended() -> None:
    ended = []

    def run(share: Sequence[Row]) -> torch.Tensor:
        ended.append(len(share))
        if any(row.ids[0] == 1 for row in share):
            raise MemoryError
        return torch.zeros(len(share), 1)

    side_by_side = SideBySide(run, 2)
    with pytest.raises(MemoryError):
        side_by_side(rows(90, 100))
    side_by_side.close()
    assert ended == [1, 1]


@pytest.mark.parametrize("kind", ["BertModel", "BertForSequenceClassification"])
def test_two_threads_answer_as_one_does(tmp_path: Path, kind: str) -> None:
    more = {} if kind == "BertModel" else tiny.labels("good", "bad", "neither")
    tiny.save(tmp_path, kind, **more)
    name = "embedding" if kind == "BertModel" else "logits"
    request = of_texts(*TEXTS * 4, answer="tensors")
    alone, two = model(tmp_path), model(tmp_path, threads=2)
    assert numbers(answer(two, request), name) == pytest.approx(numbers(answer(alone, request), name), abs=1e-5)
    two.close()
    alone.close()
