"""A model whose batches are counted in tokens, as those of encoders are: a byte is a token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from consumer.models.base import Description, Model
from tests.e2e.runtimes.switchable import Switchable


class Counted(Switchable):
    """See the module."""

    def describe(self) -> Description:
        """Count tokens."""
        return replace(super().describe(), unit="token")

    def units(self, row: Any) -> int:
        """Its bytes."""
        return max(1, len(row))


def create(options: dict[str, Any]) -> Model:
    """Make one; ``folder`` is required."""
    return Counted(Path(options["folder"]))
