"""When waiting for more rows pays: the core of the policy ``adaptive``. Pure; time comes in as an argument, in seconds.

An idle device takes what is there at once, unless more rows are worth more than the wait. A batch of n units costs
a * n + b seconds (`cost.py`), so a row that joins this batch saves about b. Keeping k rows waiting for w
seconds costs k * w. For requests that arrive independently of one another that hardly ever pays: solving the Markov
chain of the queue gives at most 0.3% of mean latency (``docs/batching.md``). It pays when arrivals come in bursts:

- clients that had just been answered send their next request, all of them shortly after the end of a run. A device that
  never waits splits them into two groups that take turns, and runs two half-filled batches where one would do;
- a producer sends several requests at once, and the first is read before the rest is there.

So two profiles are learnt: how many rows come within some times of the end of a run, per row of that run, and of the
first arrival at an idle device. The wait that gains most is chosen, and chosen again at each arrival. It is never
longer than b / 2 or the window, so a wait in vain costs at most half of what one run costs anyhow.
"""

from __future__ import annotations

from .cost import BatchCost

LONGEST = 0.5
"""Longest wait, as a share of the fixed cost of a batch."""

EDGES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Where a wait may end, as shares of the longest."""

LEAST_WAIT_S = 0.0002
"""Where even the longest wait is shorter than this, none is begun: waking up from it takes as long."""

STRANGERS_SAVE = 0.25
"""Share of the fixed cost that a row saves by coming along. For Poisson arrivals the optimal threshold, found
numerically, is at 0.5; but what is expected is an estimate, and at the threshold nothing is won."""

RETURNING = 0.75
"""A batch's clients count as returning when this share of its rows comes within a wait. Independent arrivals cannot
look like that: of those, at most half of a batch comes within half of the shortest run."""

KEPT = 0.95
"""Weight of a batch relative to the next one in the profiles: what counts is the last twenty or so."""

_NOW = float("-inf")
_NEVER = float("inf")


class _Profile:
    """How many rows come within each edge after an event, per unit of that event's size."""

    def __init__(self) -> None:
        self.since_s = _NEVER
        self.rows = 0
        self.size = 0.0
        self._edges: tuple[float, ...] = ()
        self._counts = [0] * len(EDGES)
        self._sums = [0.0] * len(EDGES)
        self._sizes = 0.0

    def begin(self, now_s: float, size: float, longest_s: float) -> None:
        """Close the last observation and begin one."""
        if self.size:
            self._sizes = KEPT * self._sizes + self.size
            for index, found in enumerate(self._counts):
                self._sums[index] = KEPT * self._sums[index] + found
                self._counts[index] = 0
        self.since_s, self.size, self.rows = now_s, size, 0
        self._edges = tuple(longest_s * edge for edge in EDGES)

    def count(self, rows: int, now_s: float) -> None:
        """Note an arrival."""
        self.rows += rows
        passed_s = now_s - self.since_s
        for index, edge_s in enumerate(self._edges):
            if passed_s <= edge_s:
                self._counts[index] += rows

    def best(self, waiting: int, now_s: float, saved_s: float, least_share: float) -> tuple[float, float]:
        """Return the largest gain in row-seconds and until when to wait for it; (0, -inf) when none pays."""
        best_gain, best_s = 0.0, _NOW
        if self._sizes == 0.0:
            return best_gain, best_s
        for edge_s, total in zip(self._edges, self._sums, strict=True):
            until_s = self.since_s + edge_s
            share = total / self._sizes
            if until_s <= now_s or share < least_share:
                continue
            gain = (share * self.size - self.rows) * saved_s - waiting * (until_s - now_s)
            if gain > best_gain:
                best_gain, best_s = gain, until_s
        return best_gain, best_s


class Adaptive:
    """Says until when an idle device waits. Every method is called in the order of time.

    Args:
        cost: what a batch costs, kept up to date by the executor.
        window_s: longest wait, whatever it gains.
    """

    def __init__(self, cost: BatchCost, window_s: float) -> None:
        self._cost, self._window_s = cost, window_s
        self._after_run, self._after_first = _Profile(), _Profile()
        self._run_units = 0
        self._is_idle = True
        self._longest_s = 0.0
        self._update_longest()

    def waits(self) -> bool:
        """Say whether there is any wait that could pay."""
        return self._longest_s > 0.0

    def _update_longest(self) -> None:
        longest_s = min(self._window_s, LONGEST * self._cost.fixed_s)
        self._longest_s = longest_s if longest_s >= LEAST_WAIT_S else 0.0

    def arrived(self, rows: int, waiting: int, now_s: float) -> None:
        """Note that ``rows`` have become ready; ``waiting`` is how many wait now, these included."""
        if self._longest_s == 0.0:
            return
        if self._is_idle and rows == waiting:
            self._after_first.begin(now_s, 1.0, self._longest_s)
        self._after_run.count(rows, now_s)
        self._after_first.count(rows, now_s)

    def begun(self) -> None:
        """Note that a run has begun."""
        self._is_idle = False

    def ended(self, rows: int, units: int, now_s: float) -> None:
        """Note that a run of ``rows`` rows and ``units`` units has ended and the device is free."""
        self._is_idle, self._run_units = True, units
        self._update_longest()
        if self._longest_s > 0.0:
            self._after_run.begin(now_s, rows, self._longest_s)

    def until_s(self, waiting: int, units: int, now_s: float) -> float:
        """Return until when ``waiting`` rows of ``units`` should wait for more; minus infinity for not at all."""
        if self._longest_s == 0.0:
            return _NOW
        fixed_s = self._cost.fixed_s
        found = self._after_first.best(waiting, now_s, STRANGERS_SAVE * fixed_s, 0.0)
        # A returning client that misses the batch waits for all of its run. Where most of that is not the fixed part,
        # such stragglers lose more than the others gain.
        if self._run_units * self._cost.per_unit_s <= fixed_s:
            found = max(found, self._after_run.best(waiting, now_s, self._cost.run_s(units), RETURNING))
        return found[1]
