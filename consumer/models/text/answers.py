"""From what a network says of each text to the answer to a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.models import ranking
from consumer.models.base import Result
from shared.state.cards import ANSWER, TENSORS, TensorSpec
from shared.wire.messages import Prediction, Request, Tensor

from .folder import CLASSIFICATION, EMBEDDING, OpenFolder

TOKENS, SCORE, LOGITS = "tokens", "score", "logits"


class Answered:
    """Numbers of one text, and how many tokens it had; numpy takes it for the numbers, to compare precisions."""

    __slots__ = ("tokens", "values")

    def __init__(self, values: NDArray[np.float32], tokens: int) -> None:
        self.values, self.tokens = values, tokens

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=copy)


class Answers:
    """Makes answers.

    Args:
        width: numbers per text.

    Attributes:
        outputs: the tensors; ``tokens`` says how many tokens each text had.
    """

    def __init__(self, folder: OpenFolder, width: int) -> None:
        self._folder = folder
        if folder.task == CLASSIFICATION and len(folder.labels) != width:
            raise ValueError(f"{folder.path} names {len(folder.labels)} classes, and the network has {width}.")
        name, shape = {EMBEDDING: ("embedding", (width,)), CLASSIFICATION: (LOGITS, (width,))}.get(
            folder.task, (SCORE, ())
        )
        self._name = name
        self.outputs = (TensorSpec(name, "FP32", shape), TensorSpec(TOKENS, "INT32", ()))

    def check(self, request: Request) -> None:
        """Refuse parameters that cannot be.

        Raises:
            RequestError: ``INVALID_INPUT``.
        """
        if self._folder.task == CLASSIFICATION:
            self._top_k(request)

    def of(self, outputs: Sequence[Any], request: Request) -> Result:
        """Return vectors, the likeliest classes of each text, or scores from 0 to 1."""
        values = np.array([one.values for one in outputs], dtype="<f4")
        if self._folder.task == CLASSIFICATION and request.params.get(ANSWER) != TENSORS:
            return Result(predictions=self._predictions(values, self._top_k(request)))
        if self._name == SCORE:
            values = _sigmoid(values[:, 0])
        tokens = np.array([one.tokens for one in outputs], dtype="<i4")
        return Result(
            outputs=(
                Tensor(self._name, "FP32", values.shape, values.astype("<f4", copy=False).tobytes()),
                Tensor(TOKENS, "INT32", tokens.shape, tokens.tobytes()),
            )
        )

    def _predictions(self, logits: NDArray[Any], top_k: int) -> list[Prediction]:
        scores = _sigmoid(logits) if self._folder.is_multi_label else ranking.softmax(logits)
        # Sigmoids of several classes may be 1: of equals the first ones are kept, which a partition does not promise.
        ranked = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        return ranking.predictions(scores, self._folder.labels, ranked)

    def _top_k(self, request: Request) -> int:
        return ranking.top_k(request, len(self._folder.labels))


def _sigmoid(values: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = 1 / (1 + np.exp(-np.clip(values, -80, 80)))
    return found
