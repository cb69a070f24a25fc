"""A model whose rows take a time that is known: a batch takes 4 ms, and 8 ms for each row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from consumer.models.base import Model
from tests.e2e.bulk.gallery import Gallery

FIXED_S, PER_ROW_S = 0.004, 0.008


class Slow(Gallery):
    """As the gallery, and slow."""

    def run(self, rows: Sequence[bytes]) -> Sequence[int]:
        """Take the time."""
        time.sleep(FIXED_S + PER_ROW_S * len(rows))
        return super().run(rows)


def create(options: dict[str, Any]) -> Model:
    """Make the model."""
    return Slow()
