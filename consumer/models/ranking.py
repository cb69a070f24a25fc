"""The likeliest classes of each row, as classifiers answer with them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.wire.messages import Prediction, Request
from shared.wire.outcomes import invalid

DEFAULT_TOP_K = 5
SCORE_DIGITS = 6  # what float32 has to say; more digits would be noise


def top_k(request: Request, classes: int) -> int:
    """Return how many classes a request asks for: its ``top_k``, else 5.

    Raises:
        RequestError: ``INVALID_INPUT``: not a whole number from 1 to ``classes``.
    """
    value = request.params.get("top_k")
    if value is None:
        return min(DEFAULT_TOP_K, classes)
    if type(value) is not int or not 1 <= value <= classes:
        raise invalid(f"top_k must be a whole number from 1 to {classes}.", "parameters.top_k")
    return value


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities that add up to 1 in each row; shape (rows, classes)."""
    scores: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def predictions(scores: NDArray[Any], labels: Sequence[str], ranked: NDArray[np.intp]) -> list[Prediction]:
    """Return classes of each row with their scores.

    Args:
        scores: shape (rows, classes).
        ranked: indices of those classes, best first, such as :func:`best` returns; shape (rows, count).
    """
    return [
        Prediction(labels[index], index, round(float(row[index]), SCORE_DIGITS), number)
        for number, (row, chosen) in enumerate(zip(scores, ranked.tolist(), strict=True))
        for index in chosen
    ]


def best(scores: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Return the indices of the ``count`` highest scores per row, best first; shape (rows, count)."""
    if count < scores.shape[1]:
        candidates = np.sort(np.argpartition(scores, -count, axis=1)[:, -count:], axis=1)
    else:
        candidates = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, candidates, axis=1), axis=1, kind="stable")
    return np.take_along_axis(candidates, order, axis=1)
