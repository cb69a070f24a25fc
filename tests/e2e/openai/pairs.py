"""A small model of pairs of texts: the score of a pair says how many letters of the one the other begins with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor


class Pairs(Model):
    """A row is a pair."""

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def describe(self) -> Description:
        """Two texts in, a score out."""
        inputs = (TensorSpec("query", "BYTES", ()), TensorSpec("text", "BYTES", ()))
        return Description(inputs, (TensorSpec("score", "FP32", (1,)),), content_types=())

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Pairs."""
        assert request.inputs is not None
        return list(zip(*(_texts(tensor.data) for tensor in request.inputs), strict=True))

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Each pair by itself."""
        return [sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(*pair, strict=False))) for pair in rows]

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The scores."""
        return Result(outputs=[Tensor("score", "FP32", (len(outputs), 1), np.array(outputs, "f4").tobytes())])

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Words."""
        return [("some", "words")] * count


def _texts(data: bytes) -> list[str]:
    at, texts = 0, []
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        texts.append(bytes(data[at + 4 : end]).decode())
        at = end
    return texts


def create(options: dict[str, Any]) -> Model:
    """Make one."""
    return Pairs()
