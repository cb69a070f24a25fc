"""Our packages as a wheel carries them: inside ``headrace``, so that no ``shared`` lands beside another. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

INSIDE = ("consumer", "loadgen", "producer_api", "shared")
"""Packages at the top of a checkout that a wheel has inside :data:`HOME`."""

HOME = "headrace._internal"


class _Edit(NamedTuple):
    line: int
    column: int
    end: int
    text: str


def rewritten(source: str, name: str) -> str:
    """Return a module's source with its imports of our packages leading to where a wheel has them.

    Args:
        source: Python.
        name: of the file, for messages.

    Raises:
        ValueError: an import binds the name of one of our packages itself, which would be another one's there.
    """
    lines = source.splitlines(keepends=True)
    for edit in sorted(_edits(ast.parse(source, name), lines, name), reverse=True):
        line = lines[edit.line].encode()
        lines[edit.line] = (line[: edit.column] + edit.text.encode() + line[edit.end :]).decode()
    return "".join(lines)


def _edits(tree: ast.AST, lines: list[str], name: str) -> Iterator[_Edit]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_ours(node.module or ""):
            yield _edit(lines, node.lineno, node.col_offset, node.module or "")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if _is_ours(alias.name):
                    if alias.asname is None:
                        raise ValueError(f"{name}:{alias.lineno}: write `from {alias.name} import …` instead.")
                    yield _edit(lines, alias.lineno, alias.col_offset, alias.name)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in INSIDE


def _edit(lines: list[str], line: int, column: int, module: str) -> _Edit:
    at = lines[line - 1].encode().index(module.encode(), column)
    return _Edit(line - 1, at, at + len(module.encode()), f"{HOME}.{module}")
