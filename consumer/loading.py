"""Loading a model: device, threads, precision, warm-up. Called on the thread that will run the model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from shared.allocator import give_back_freed_memory
from shared.cards import Example
from shared.machine import usable_cores
from shared.model_config import NETWORK_FAMILIES

from .allocator import prepare_for_torch
from .calibration import Calibration, calibrate
from .circumstances import circumstances
from .config import ConsumerConfig
from .events import Parity
from .load_errors import told_as_the_models
from .models.base import Description, Model
from .models.fitting import Fitting
from .notes import Notes
from .precision import free_memory, prepare
from .rehearsal import rehearse

log = logging.getLogger(__name__)


def pick_device(setting: str, family: str) -> str:
    """Choose ``cpu`` or ``cuda``. torch is imported only when the family needs it or has imported it already."""
    if setting != "auto":
        return setting
    if family in NETWORK_FAMILIES or "torch" in sys.modules:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cpu"


def default_threads(device: str = "cpu") -> int:
    """Threads for one batch: one beside a GPU; on a CPU every core this process may use but one.

    That one is for Redis and the front end. With a thread on every core, one that the kernel takes away stalls all
    others at the end of each layer: batches of milliseconds then take seconds on a busy machine
    (``docs/benchmarks.md``). Of several consumers `headrace up` gives each its share (``headrace/sizing.py``).
    """
    return 1 if device == "cuda" else max(1, usable_cores() - 1)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to serve.

    Attributes:
        description: what it said of itself after loading.
        parity: how close its precision comes to fp32.
        calibration: what its batches cost.
        example: a request that it has answered, for people to copy.
    """

    model: Model
    description: Description
    parity: Parity
    device: str
    calibration: Calibration
    example: Example | None


def load_model(
    build: Callable[[], Model], config: ConsumerConfig, close: Callable[[Model], None] = Model.close
) -> Loaded:
    """Build, load, check the precision of, warm up and rehearse a model.

    Args:
        close: closes a model that is let go, because another precision is tried or because this one fails.

    Raises:
        ModelCannotLoad: it cannot be loaded so, its precision is too far from fp32, or its own samples fail. Whatever
            the model's code raises, ``SystemExit`` included, is told as this.
    """
    with told_as_the_models(config.model_name):
        return _load_model(build, config, close)


def _load_model(build: Callable[[], Model], config: ConsumerConfig, close: Callable[[Model], None]) -> Loaded:
    begun_s = monotonic()
    if config.model.family == "python":
        build()  # imports the entry, and with it torch if it uses torch
    if config.model.family in NETWORK_FAMILIES:
        prepare_for_torch()
    device = pick_device(config.settings.device, config.model.family)
    if config.model.family in NETWORK_FAMILIES or "torch" in sys.modules:
        import torch

        torch.set_num_threads(config.settings.torch_threads or default_threads(device))
    notes = Notes(Path(config.settings.data_dir) / "notes", config.model_name, circumstances(config, device))

    def tuned() -> Model:
        model = build()
        if config.model.family == "python":
            model = Fitting(model, lambda: free_memory(device))
        model.tune(notes, config.settings.recipe_steps)
        return model

    model, parity = prepare(tuned, device, config.precision, config.max_batch, notes, close)
    try:
        # The networks that were tried and let go leave more behind than the one that was kept takes.
        free_memory(device)
        give_back_freed_memory()
        loaded_s = monotonic()
        calibration = calibrate(model, config, device, notes, parity.precision)
        description = model.describe()
        example = rehearse(config.model_name, model, description)
        _tell(config, model, parity, device, loaded_s - begun_s, monotonic() - loaded_s)
        return Loaded(model, description, parity, device, calibration, example)
    except BaseException:
        close(model)
        raise


def _tell(config: ConsumerConfig, model: Model, parity: Parity, device: str, loaded_s: float, warmed_s: float) -> None:
    log.info(
        "Loaded %s in %s on %s in %.1f s, warmed up in %.1f s. Recipe: %s. Precision %s: %s",
        config.model_name,
        parity.precision,
        device,
        loaded_s,
        warmed_s,
        ", ".join(model.recipe()) or "plain",
        parity.precision,
        parity.reason,
    )
