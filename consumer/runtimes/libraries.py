"""Libraries that may be missing or broken, and what their errors say in one line."""

from __future__ import annotations

import importlib.util
import re

_NOISE = re.compile(r"^(Exception from |Check '.*' failed at |FrontEnd API failed with |\[ ?[A-Z_]+ ?\]$)")
_CODES = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACES = re.compile(r"\S*/(\S+\.(?:cc|cpp|h|hpp):\d+) ")
MOST_CHARACTERS = 300


def missing(library: str, group: str) -> str:
    """Say in a sentence that a library is not installed; empty when it is. Nothing is imported.

    Args:
        group: the dependency group that brings it.
    """
    try:
        is_there = importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        is_there = False
    return "" if is_there else f"{library} is not installed; the dependency group `{group}` brings it."


def said(error: BaseException) -> str:
    """Return what an error says: its first line that tells something, without where in the library it was raised."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not _NOISE.match(line)] or [type(error).__name__]
    text = _PLACES.sub("", _CODES.sub("", telling[0]))
    return text[:MOST_CHARACTERS].rstrip(". ") or type(error).__name__


def is_lack_of_memory(error: BaseException) -> bool:
    """Say whether a library's error tells of memory that it did not get; each has words of its own for it."""
    text = str(error).lower()
    return any(words in text for words in ("allocate memory", "bad_alloc", "bad allocation"))
