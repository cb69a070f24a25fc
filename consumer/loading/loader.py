"""Loads the model of one consumer, again for each precision, and publishes its progress and its card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from consumer.config import ConsumerConfig
from consumer.events import Parity
from consumer.models.base import ROW, Model
from consumer.models.load_errors import ModelCannotLoad
from consumer.switching.adoption import Adoptable
from shared.state.cards import BatchSettings, Card, Tuning
from shared.state.starts import Phase

from .closing import Closing
from .load import Loaded, load_model
from .precision import free_memory
from .progress import Board, StartWatch
from .warmup import Calibration


@dataclass(frozen=True, slots=True)
class Running:
    """What is known of the loaded model without holding it.

    Attributes:
        adoptable: where a search may find something faster for it; None if there is no search.
    """

    card: Card
    parity: Parity
    device: str
    calibration: Calibration
    adoptable: Adoptable | None = None


class Loader:
    """Makes models that are ready to serve, on the calling thread, which must always be the same.

    Args:
        build: makes a model that is not loaded yet.
        board: where operators see that a model loads, or why it cannot.
        closing: closes models that are no longer used.
    """

    def __init__(self, config: ConsumerConfig, build: Callable[[], Model], board: Board, closing: Closing) -> None:
        self._config, self._build, self._board, self._closing = config, build, board, closing
        self._watch = StartWatch(config.model_name, board, config.settings.heartbeat_ms / 1000)
        self._device: str | None = None

    def load(self, precision: str) -> tuple[Model, Running]:
        """Load in ``precision``, with the memory of an earlier model given back before.

        Raises:
            ModelCannotLoad: the model cannot be built, loaded, run or rehearsed so.
        """
        if self._device is not None:
            free_memory(self._device)
        wanted = replace(self._config, precision=precision)
        with self._watch.loading() as for_s:
            loaded = load_model(self._build, wanted, self._closing.close)
        self._board.tell(Phase.READY, for_s())
        self._device = loaded.device
        return loaded.model, self._running(loaded, wanted)

    def failed(self, error: ModelCannotLoad) -> None:
        """Tell operators that the consumer ends for want of a model."""
        self._board.tell(Phase.FAILED, 0.0, error.why)

    def _running(self, loaded: Loaded, wanted: ConsumerConfig) -> Running:
        config, description, calibration = self._config, loaded.description, loaded.calibration
        cost = calibration.cost()
        runtime, tuning = _run_by(loaded, wanted.model.runtime)
        card = Card(
            name=config.model_name,
            version=config.model.version,
            family=config.model.family,
            inputs=description.inputs,
            outputs=description.outputs,
            content_types=description.content_types,
            precision=loaded.parity.precision,
            device=loaded.device,
            batch=BatchSettings(
                config.max_batch,
                config.window_ms,
                config.policy,
                calibration.preferred,
                round(cost.fixed_s * 1000, 4),
                round(cost.per_unit_s * calibration.units_per_row * 1000, 4),
                calibration.unit,
                config.max_batch if calibration.unit == ROW else calibration.most_units,
                float(f"{cost.per_unit_s * 1000:.4g}"),
            ),
            labels=description.labels,
            warnings=description.warnings,
            runtime=runtime,
            tuning=tuning,
            precision_reason=loaded.parity.reason,
            example=loaded.example,
            answers=description.answers(),
            task=description.task,
            context=description.context,
            dimensions=description.dimensions,
            pooling=description.pooling,
            normalize=description.normalize,
            cache=config.cache,
        )
        adoptable = loaded.network.adoptable if loaded.network else None
        return Running(card, loaded.parity, loaded.device, calibration, adoptable)


def _run_by(loaded: Loaded, asked: str) -> tuple[str, Tuning | None]:
    """Return the library that runs the model, and how it came to that; empty and None for code of its own."""
    if loaded.network is not None:
        return loaded.network.runtime, loaded.network.tuning
    runtime, reason = loaded.model.runtime()
    state = "fixed" if asked in ("auto", runtime) else "refused"
    return runtime, Tuning(state, reason) if runtime else None
