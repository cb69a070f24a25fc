"""A model that works for a given time and computes nothing: what the performance gate is tried out on.

The time is waited for, as a processor waits for its accelerator, so the core stays free for everything else. The
answer is the first byte of the body. Its table in models.toml:

    [models.synthetic]
    family = "python"
    entry = "examples.synthetic_model:create"
    options = { batch_ms = 20, row_ms = 0.2, slower = 1.0, fail_every = 0, wrong = 0, mixed = 0 }

``slower`` multiplies both times; with ``fail_every = 20`` every twentieth request fails; with ``wrong = 1`` each answer
is off by one, and with ``mixed = 1`` all rows of a batch get the answer of its first.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from headrace.model import (
    RAW,
    UNSUPPORTED_MEDIA_TYPE,
    Description,
    Model,
    Request,
    RequestError,
    Result,
    Tensor,
    TensorSpec,
    invalid,
)


class Synthetic(Model):
    def __init__(self, batch_ms: float, row_ms: float, slower: float, fail_every: int, wrong: int, mixed: int) -> None:
        self._batch_s, self._row_s = slower * batch_ms / 1000, slower * row_ms / 1000
        self._fail_every, self._numbers = fail_every, itertools.count(1)
        self._wrong, self._mixed = wrong, mixed

    def describe(self) -> Description:
        one = (TensorSpec("input", "UINT8", (-1,)),)
        return Description(one, (TensorSpec("output", "UINT8", (1,)),), (RAW,))

    def load(self, device: str, precision: str) -> None:
        """Any device and precision gives the same answer."""

    def preprocess(self, request: Request) -> Sequence[Any]:
        if request.content_type != RAW or not request.body:
            raise RequestError(UNSUPPORTED_MEDIA_TYPE, f"This model takes {RAW}, at least one byte.")
        if self._fail_every and next(self._numbers) % self._fail_every == 0:
            raise invalid("This request was chosen to fail.", "body")
        return [request.body[:1]]

    def run(self, rows: Sequence[Any]) -> Sequence[Any]:
        done_s = time.perf_counter() + self._batch_s + self._row_s * len(rows)
        while (left_s := done_s - time.perf_counter()) > 0:
            time.sleep(left_s)
        if self._mixed:
            rows = [rows[0]] * len(rows)
        return [bytes([(row[0] + self._wrong) % 256]) for row in rows]

    def postprocess(self, outputs: Sequence[Any], request: Request) -> Result:
        return Result(outputs=(Tensor("output", "UINT8", (1, 1), outputs[0]),))

    def sample_rows(self, count: int) -> Sequence[Any]:
        return [b"\0"] * count

    def decodes(self, request: Request) -> bool:
        return False


def create(options: dict[str, Any]) -> Model:
    known = {"batch_ms": 20.0, "row_ms": 0.2, "slower": 1.0, "fail_every": 0, "wrong": 0, "mixed": 0}
    if unknown := options.keys() - known.keys():
        raise ValueError(f"options has no {min(unknown)!r}; there are {', '.join(known)}.")
    return Synthetic(**{**known, **options})
