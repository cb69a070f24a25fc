"""How many requests are left, shown on standard error: a bar on a terminal, lines elsewhere [I/O]."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_S = 1.0
"""Least time between two lines."""


class DrainProgress:
    """A context manager around a wait.

    Args:
        title: what goes on.
        total: how many are left at the beginning; more may come.
    """

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._told: tuple[int, int] | None = None
        self._told_s = -LINE_S
        self._open = ExitStack()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _make_bar()
        if self._bar is not None:
            self._open.enter_context(self._bar)
            self._task = self._bar.add_task(self._title, total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def show(self, left: int, workers: int) -> None:
        """Say how many are left, and how many workers live."""
        self._total = max(self._total, left)
        text = f"{left} requests left, {workers} live workers"
        if self._bar is not None:
            self._bar.update(self._task, total=self._total, completed=self._total - left, description=text)
        elif (left, workers) != self._told and time.monotonic() - self._told_s >= LINE_S:
            self._told, self._told_s = (left, workers), time.monotonic()
            click.echo(f"headrace: {self._title}: {text}", err=True)


def _make_bar() -> Progress | None:
    """Make the bar; None in the front end's image, which goes without rich."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
