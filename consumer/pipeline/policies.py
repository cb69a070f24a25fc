"""From a policy's name to a batcher."""

from __future__ import annotations

from consumer.batching.adaptive import Adaptive
from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import RowBudget
from consumer.config import ConsumerConfig
from consumer.loading.warmup import Calibration

from .items import Item


def make_batcher(config: ConsumerConfig, calibration: Calibration) -> tuple[Batcher[Item], BatchCost]:
    """Make the batcher of a consumer, and the cost model that it shares with the executor.

    ``window`` is literal: batches of up to ``max_batch`` rows. ``adaptive`` fills them up to the preferred size only.
    """
    cost = calibration.cost()
    window_s = config.window_ms / 1000
    if config.policy == "window":
        return Batcher(RowBudget(config.max_batch), window_s, cost), cost
    return Batcher(RowBudget(calibration.preferred), window_s, cost, Adaptive(cost, window_s)), cost
