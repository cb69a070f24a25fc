"""What is kept of a network beside its exported file. Light: nothing else is imported for it."""

from __future__ import annotations

import msgspec

from shared.model_config import Preprocessing


class ClassifierSpec(msgspec.Struct, frozen=True):
    """What a classifier has to know of its network without having it; kept beside an exported one.

    Attributes:
        preprocessing: how its pictures are made.
        labels: one name per class.
        warnings: sentences for every answer.
    """

    preprocessing: Preprocessing
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()
