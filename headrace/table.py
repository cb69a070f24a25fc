"""Plain tables and words for the terminal. Pure.

The front end's image, in which operators run commands too, has no rich.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines of columns as wide as their widest cell; control characters are shown as ``?``."""
    cells = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def printable(text: str) -> str:
    """Return ``text`` with control characters shown as ``?``."""
    return "".join(character if character.isprintable() else "?" for character in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known name that may have been meant, after a space; nothing where none is near."""
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {printable(near[0])}?" if near else ""
