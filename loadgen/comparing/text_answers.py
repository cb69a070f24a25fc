"""Answers of OpenAI's API in the form in which two services' answers are compared. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def comparable(answer: Any) -> dict[str, Any] | None:
    """Return the texts of a chat as `predictions`, vectors as one tensor in `outputs`; None of anything else.

    The vectors must be numbers, and of one length.
    """
    if not isinstance(answer, Mapping):
        return None
    choices, data = answer.get("choices"), answer.get("data")
    try:
        if choices:
            return {"predictions": [str(choice["message"]["content"]) for choice in choices]}
        if data:
            vectors = [[float(number) for number in one["embedding"]] for one in data]
            if len({len(vector) for vector in vectors}) != 1:
                return None
            shape = [len(vectors), len(vectors[0])]
            numbers = [number for vector in vectors for number in vector]
            return {"outputs": [{"name": "embedding", "datatype": "FP32", "shape": shape, "data": numbers}]}
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return None
