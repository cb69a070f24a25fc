"""What a heartbeat says of the batches that ran lately: how busy the device is, how large they are, what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from shared.metrics.histograms import Series
from shared.metrics.rates import RecentRate
from shared.names import host_name
from shared.state.desired_state import BATCH, BUSY, FIXED_MS, HOST, PER_ROW_MS, UNIT

from .batching.cost import BatchCost

RECENT_S: Final = 10.0


class RecentWork:
    """Looks at counters that exist anyway; for the heartbeat's thread.

    Args:
        sizes: rows of each batch that was committed.
        busy_s: for how many seconds the device has run batches.
    """

    def __init__(self, sizes: Series, busy_s: Callable[[], float]) -> None:
        self._sizes, self._busy_s = sizes, busy_s
        self._busy, self._rows, self._batches = RecentRate(RECENT_S), RecentRate(RECENT_S), RecentRate(RECENT_S)
        self._host = host_name()

    def published(self, cost: BatchCost | None, unit: str | None, now_s: float) -> Mapping[str, str]:
        """Return the fields of the worker's hash; one is empty where nothing is known of it.

        Args:
            cost: what a batch costs now; None while no model runs.
            unit: what it is counted in.
        """
        share = min(1.0, self._busy.per_s(self._busy_s(), now_s))
        rows_per_s = self._rows.per_s(self._sizes.total, now_s)
        batches_per_s = self._batches.per_s(sum(self._sizes.counts), now_s)
        known = cost is not None and cost.run_s(1) > 0.0
        return {
            HOST: self._host,
            BUSY: f"{share:.3f}",
            BATCH: f"{rows_per_s / batches_per_s:.1f}" if batches_per_s > 0 else "",
            FIXED_MS: f"{1000 * cost.fixed_s:.4g}" if known and cost is not None else "",
            PER_ROW_MS: f"{1000 * cost.per_unit_s:.4g}" if known and cost is not None else "",
            UNIT: (unit or "") if known else "",
        }
