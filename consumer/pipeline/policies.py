"""From a policy's name to a batcher."""

from __future__ import annotations

from consumer.batching.adaptive import Adaptive
from consumer.batching.batcher import Batcher
from consumer.batching.cost import BatchCost
from consumer.batching.load import Budget, PaddedTokenBudget, RowBudget, TokenBudget
from consumer.config import ConsumerConfig
from consumer.loading.warmup import Calibration

from .items import Item


def make_batcher(config: ConsumerConfig, calibration: Calibration) -> tuple[Batcher[Item], BatchCost]:
    """Make the batcher of a consumer, and the cost model that it shares with the executor.

    ``window`` is literal: batches of up to ``max_batch`` rows. ``adaptive`` fills them up to the preferred size only.
    A model that bounds the units of a batch has both in units, and ``max_batch`` rows at most.
    """
    cost = calibration.cost()
    window_s = config.window_ms / 1000
    budget = _budget(config, calibration)
    if config.policy == "window":
        return Batcher(budget, window_s, cost), cost
    return Batcher(budget, window_s, cost, Adaptive(cost, window_s)), cost


def _budget(config: ConsumerConfig, calibration: Calibration) -> Budget:
    fills = config.policy == "window"
    if calibration.most_units is None:
        return RowBudget(config.max_batch if fills else calibration.preferred)
    most = calibration.most_units if fills else calibration.preferred_units or calibration.most_units
    return (PaddedTokenBudget if calibration.pads_rows else TokenBudget)(most, config.max_batch)
