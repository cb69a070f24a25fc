"""The small model of texts of tests/e2e/openai, which here takes a list of texts in msgpack, as family text does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from consumer.models.base import Model
from shared.wire.messages import Request
from tests.e2e.openai.letters import TOKENS_TYPE, Letters


class Texts(Letters):
    """A row is a text."""

    def preprocess(self, request: Request) -> Sequence[Any]:
        """Texts, in msgpack or as BYTES."""
        if request.content_type == TOKENS_TYPE:
            rows: list[str] = msgpack.unpackb(request.body)
            return rows
        return super().preprocess(request)


def create(options: dict[str, Any]) -> Model:
    """Make one."""
    return Texts()
