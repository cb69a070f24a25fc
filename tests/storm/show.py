"""What the storm says while it rages, and at its end [I/O]."""

from __future__ import annotations

import sys
import time
from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.storm.ledger import End, Kind, Ledger

LINE_S = 10.0


def table(ledger: Ledger) -> Table:
    """The account, by kind."""
    shown = Table(title="Ledger of ids")
    shown.add_column("")
    for name in ("sent", *End, "open", "wrong", "crossed"):
        shown.add_column(name, justify="right")
    for kind in Kind:
        sent, ends = ledger.by_kind[kind, "sent"], [ledger.by_kind[kind, end] for end in End]
        shown.add_row(kind.value, f"{sent:,}", *(f"{count:,}" for count in ends), f"{sent - sum(ends):,}", "", "")
    totals = [f"{ledger.ends[end]:,}" for end in End]
    shown.add_row(
        "all", f"{len(ledger.cases):,}", *totals, f"{len(ledger.open):,}", f"{ledger.wrong:,}", f"{ledger.crossed:,}"
    )
    return shown


class Show:
    """Live on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, ledger: Ledger, lasts_s: float) -> None:
        self._ledger, self._lasts_s = ledger, lasts_s
        self._console = Console(width=None if sys.stdout.isatty() else 120)
        self._faults: deque[str] = deque(maxlen=8)
        self._begun_s = self._said_s = time.monotonic()
        self._live = Live(console=self._console, refresh_per_second=2, transient=True)
        if self._console.is_terminal:
            self._live.start()

    def fault(self, text: str) -> None:
        """Say what was done."""
        self._faults.append(f"{time.monotonic() - self._begun_s:6.1f} s  {text}")
        self.refresh()

    def refresh(self) -> None:
        """Bring what is shown up to date."""
        now_s = time.monotonic()
        if self._console.is_terminal:
            head = Text(f"{now_s - self._begun_s:.0f} of {self._lasts_s:.0f} s")
            breaches = Text(", ".join(f"{sort}: {count}" for sort, count in self._ledger.breaches.items()), "bold red")
            self._live.update(Group(head, table(self._ledger), Text("\n".join(self._faults)), breaches))
        elif now_s - self._said_s >= LINE_S:
            self._said_s = now_s
            ends = ", ".join(f"{end} {self._ledger.ends[end]}" for end in End)
            breaches_text = "".join(f"; {sort}: {count}" for sort, count in self._ledger.breaches.items())
            sent, waiting = len(self._ledger.cases), len(self._ledger.open)
            print(f"{now_s - self._begun_s:.0f} s: sent {sent}, {ends}, open {waiting}{breaches_text}", flush=True)

    def say(self, text: str) -> None:
        """Say a sentence."""
        self._console.print(text, highlight=False)

    def close(self) -> None:
        """End with the table."""
        if self._console.is_terminal:
            self._live.stop()
        self._console.print(table(self._ledger))
