"""[I/O] Shows a run while it goes on: a live table on a terminal, one line a second elsewhere; always on stderr."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from .results.stats import percentile

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a run.

    `recent_ms` are the latencies of requests that ended since the last one, `recent_ttft_ms` the times to first token
    of the chats among them; ascending.
    """

    elapsed_s: float
    total_s: float
    warming: bool
    ok: int
    failed: int
    in_flight: int
    interval_s: float
    recent_ms: tuple[float, ...]
    recent_ttft_ms: tuple[float, ...] = ()

    @property
    def rate_per_s(self) -> float:
        """Requests that ended per second since the last snapshot."""
        return len(self.recent_ms) / self.interval_s if self.interval_s > 0 else 0.0

    def percentile_text(self, share: float) -> str:
        """A recent percentile for people, such as `12.3 ms`."""
        return _text(self.recent_ms, share)

    def ttft_text(self, share: float) -> str:
        """The same of the time to first token."""
        return _text(self.recent_ttft_ms, share)


def _text(ordered: tuple[float, ...], share: float) -> str:
    if not ordered:
        return "-"
    value = percentile(ordered, share)
    return "failed" if math.isinf(value) else f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"


class Progress(Protocol):
    """Something that shows snapshots, one every `interval_s` seconds."""

    interval_s: float

    def show(self, snapshot: Snapshot) -> None:
        """Show one snapshot."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainProgress:
    """One line a second, for logs."""

    interval_s = 1.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, snapshot: Snapshot) -> None:
        """Print one line."""
        phase = "warm-up" if snapshot.warming else "measure"
        ttft = f"  ttft p95 {snapshot.ttft_text(0.95)}" if snapshot.recent_ttft_ms else ""
        print(
            f"{phase} {snapshot.elapsed_s:4.0f}/{snapshot.total_s:.0f} s  {snapshot.rate_per_s:.0f}/s  "
            f"p50 {snapshot.percentile_text(0.5)}  p95 {snapshot.percentile_text(0.95)}  "
            f"p99 {snapshot.percentile_text(0.99)}  ok {snapshot.ok}  failed {snapshot.failed}  "
            f"in flight {snapshot.in_flight}{ttft}",
            file=self._stream,
            flush=True,
        )

    def close(self) -> None:
        """Nothing to restore."""


class LiveProgress:
    """A table that redraws itself four times a second."""

    interval_s = 0.25

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._title = title
        self._shown: Live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._shown.start()

    def show(self, snapshot: Snapshot) -> None:
        """Redraw."""
        self._shown.update(self._table(snapshot), refresh=True)

    def close(self) -> None:
        """Remove the table; the summary printed afterwards has the figures."""
        self._shown.stop()

    def _table(self, snapshot: Snapshot) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table(title=self._title, title_justify="left", show_header=False, box=None, pad_edge=False)
        table.add_column(style="dim", min_width=12)
        table.add_column()
        phase = "warm-up" if snapshot.warming else "measuring"
        done_s = min(snapshot.elapsed_s, snapshot.total_s)
        table.add_row(phase, f"{done_s:.0f} of {snapshot.total_s:.0f} s")
        table.add_row("", ProgressBar(total=max(snapshot.total_s, 1e-9), completed=done_s, width=40))
        table.add_row("rate", f"{snapshot.rate_per_s:,.0f}/s")
        shares = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        table.add_row("latency", "   ".join(f"{name} {snapshot.percentile_text(share)}" for name, share in shares))
        if snapshot.recent_ttft_ms:
            table.add_row("first token", "   ".join(f"{name} {snapshot.ttft_text(share)}" for name, share in shares))
        failed = f"[red]{snapshot.failed:,}[/red]" if snapshot.failed else "0"
        table.add_row("requests", f"ok {snapshot.ok:,}   failed {failed}   in flight {snapshot.in_flight}")
        return table


def choose_progress(title: str) -> Progress:
    """Return the live table on a terminal, plain lines otherwise."""
    return LiveProgress(title) if sys.stderr.isatty() else PlainProgress(sys.stderr)
