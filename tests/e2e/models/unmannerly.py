"""A model that does to its process what only a program of its own should do; ``options["how"]`` says what.

``fork``: in ``load``, ``preprocess``, ``run`` and ``postprocess``; with what each copy ends is the word behind it.
"""

from __future__ import annotations

import logging
import logging.config
import os
import sys
from collections.abc import Sequence
from typing import Any

from consumer.models.base import Description, Model, Result
from shared.state.cards import TensorSpec
from shared.wire.messages import Request, Tensor

SPEC = (TensorSpec("input", "UINT8", (-1,)),)


class Unmannerly(Model):
    """Gives back what it is sent."""

    def __init__(self, how: str) -> None:
        self._how = how

    def _fork(self) -> None:
        word, _, end = self._how.partition(" ")
        if word != "fork" or os.fork():
            return
        if end == "exit":
            sys.exit()
        if end == "raise":
            raise RuntimeError("the copy is done")

    def load(self, device: str, precision: str) -> None:
        """Do it."""
        self._fork()
        if self._how == "descriptors":
            os.close(1)
            os.close(2)
        elif self._how == "streams":
            sys.stdout.close()
            sys.stderr.close()
        elif self._how == "logging":
            logging.config.dictConfig({"version": 1})
            logging.disable()

    def describe(self) -> Description:
        """Bytes in, the same bytes out."""
        return Description(SPEC, SPEC)

    def preprocess(self, request: Request) -> Sequence[Any]:
        """One row."""
        self._fork()
        return [request.body or b""]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        """The rows."""
        if b"sample" not in rows:
            self._fork()
        return rows

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        """The row."""
        self._fork()
        [data] = outputs
        return Result(outputs=[Tensor("input", "UINT8", (1, len(data)), data)])

    def sample_rows(self, count: int) -> Sequence[Any]:
        """Any rows."""
        return [b"sample"] * count


def create(options: dict[str, Any]) -> Model:
    """Make one."""
    return Unmannerly(options["how"])
