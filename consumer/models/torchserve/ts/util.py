"""Small helpers that handlers import."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class PredictionException(Exception):
    """A handler's own error: ``error_code`` is an HTTP status; below 500 the client hears the message."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message, self.error_code = message, error_code

    def __str__(self) -> str:
        return f"{self.message} : {self.error_code}"


def list_classes_from_module(module: ModuleType, parent_class: type | None = None) -> list[type]:
    """Return the classes that a module defines itself; with ``parent_class``, those that derive from it."""
    own = [one for _, one in inspect.getmembers(module, inspect.isclass) if one.__module__ == module.__name__]
    return own if parent_class is None else [one for one in own if issubclass(one, parent_class)]


def load_label_mapping(mapping_file_path: str) -> Any:
    """Return the labels by the texts of their classes' numbers, as ``index_to_name.json`` has them; None without one.

    Raises:
        ValueError: the file is no JSON object of labels.
    """
    try:
        with open(mapping_file_path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    if isinstance(found, Mapping) and "object_type_names" in found:
        found = {str(number): name for number, name in enumerate(found["object_type_names"])}
    if not isinstance(found, Mapping):
        raise ValueError(f"{mapping_file_path} must be a JSON object from numbers of classes to labels")
    for key, value in found.items():
        if not isinstance(value, str | list):
            raise ValueError(f"{mapping_file_path}: the label of {key} must be text or a list")
    return {str(key): value for key, value in found.items()}


def map_class_to_label(
    probs: Sequence[Any], mapping: Mapping[str, Any] | None = None, lbl_classes: Sequence[Any] | None = None
) -> list[Any]:
    """Return for each row its probabilities by labels, in their order.

    Args:
        probs: of each row.
        mapping: labels, as :func:`load_label_mapping` returns them; None names classes by their numbers.
        lbl_classes: numbers of the classes, where they are not 0, 1, ….
    """
    if not isinstance(probs, list):
        raise TypeError("probs must be a list of lists")
    numbers = lbl_classes if lbl_classes is not None else [list(range(len(row))) for row in probs]
    return [
        {_label(mapping, number): value for number, value in zip(classes, row, strict=True)}
        for classes, row in zip(numbers, probs, strict=True)
    ]


def _label(mapping: Mapping[str, Any] | None, number: int) -> str:
    if mapping is None:
        return str(number)
    found = mapping.get(str(number), str(number))
    return str(found[-1]) if isinstance(found, list) and found else str(found)


def timed(function: F) -> F:
    """Return ``function``: what a batch takes is measured around all of it."""
    return function
