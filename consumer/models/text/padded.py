"""A batch whose texts are filled up to the longest one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .rows import Row


class PaddedBatch:
    """Tokens of several texts in a rectangle.

    Attributes:
        ids, mask, types: int64, shape (texts, longest); the mask is 1 where there is a token.
        lengths: tokens of each text.
    """

    def __init__(self, rows: Sequence[Row], padding: int, device: torch.device) -> None:
        self.lengths = [len(row.ids) for row in rows]
        shape = (len(rows), max(self.lengths))
        ids, mask = np.full(shape, padding, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        types = np.zeros(shape, dtype=np.int64)
        for place, row in enumerate(rows):
            length = len(row.ids)
            ids[place, :length], mask[place, :length] = row.ids, 1
            if row.types is not None:
                types[place, :length] = row.types
        self.ids, self.mask, self.types = (torch.from_numpy(one).to(device) for one in (ids, mask, types))
