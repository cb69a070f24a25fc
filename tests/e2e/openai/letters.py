"""A small model of texts: the vector of a text says how often it has each letter, and a word is a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor
from shared.wire.outcomes import invalid

LETTERS = 26
TOKENS_TYPE = "application/vnd.headrace.text"


class Letters(Model):
    """A row is a text. A text that is ``boom`` is refused."""

    def load(self, device: str, precision: str) -> None:
        """Nothing to load."""

    def describe(self) -> Description:
        """Texts, or tokens, each the code of a letter."""
        outputs = (TensorSpec("embedding", "FP32", (LETTERS,)), TensorSpec("tokens", "INT32", ()))
        return Description((TensorSpec("text", "BYTES", ()),), outputs, content_types=(TOKENS_TYPE,))

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Texts."""
        if request.content_type == TOKENS_TYPE:
            return ["".join(map(chr, row)) for row in msgpack.unpackb(request.body)]
        assert request.inputs is not None
        data, at, texts = request.inputs[0].data, 0, []
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            texts.append(bytes(data[at + 4 : end]).decode())
            at = end
        for index, text in enumerate(texts):
            if text == "boom":
                raise invalid("This text is refused.", f"inputs[0].data[{index}]")
        return texts

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Each row by itself."""
        return [self._one(text) for text in rows]

    def _one(self, text: str) -> tuple[Any, int]:
        codes = np.frombuffer(text.lower().encode(), np.uint8).astype(int) - ord("a")
        found = np.bincount(codes[(codes >= 0) & (codes < LETTERS)], minlength=LETTERS).astype("f4")
        return found / max(float(np.linalg.norm(found)), 1e-9), len(text.split())

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The vectors, and how many words each text has."""
        vectors, tokens = (np.stack(column) for column in zip(*outputs, strict=True))
        return Result(
            outputs=[
                Tensor("embedding", "FP32", vectors.shape, vectors.astype("f4").tobytes()),
                Tensor("tokens", "INT32", tokens.shape, tokens.astype("i4").tobytes()),
            ]
        )

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Words."""
        return ["some words"] * count


def create(options: dict[str, Any]) -> Model:
    """Make one."""
    return Letters()
