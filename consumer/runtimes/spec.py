"""What is stored of a network next to its exported file. Light: imports nothing else."""

from __future__ import annotations

import msgspec

from shared.model_config import Preprocessing


class ClassifierSpec(msgspec.Struct, frozen=True):
    """What a classifier has to know of its network without having it; kept beside an exported one.

    Attributes:
        preprocessing: how pictures become rows.
        labels: one name per class.
        warnings: sentences for every answer.
    """

    preprocessing: Preprocessing
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()
