"""Plain tables for the terminal. Pure. The front end's image, in which operators run commands too, has no rich."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines of columns as wide as their widest cell; control characters are shown as ``?``."""
    cells = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def printable(text: str) -> str:
    """Return ``text`` with control characters shown as ``?``."""
    return "".join(character if character.isprintable() else "?" for character in text)
