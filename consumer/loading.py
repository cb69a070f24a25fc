"""Loading a model: device, threads, precision, warm-up. Called on the thread that will run the model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from shared.allocator import give_back_freed_memory
from shared.machine import usable_cores
from shared.model_config import NETWORK_FAMILIES

from .allocator import prepare_for_torch
from .calibration import Calibration, calibrate
from .circumstances import circumstances
from .config import ConsumerConfig
from .events import Parity
from .models.base import Model
from .models.fitting import Fitting
from .notes import Notes
from .precision import free_memory, prepare

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


def load_model(build: Callable[[], Model], config: ConsumerConfig) -> tuple[Model, Parity, str, Calibration]:
    """Build, load, check the precision of and warm up a model.

    Returns:
        The model, how close its precision comes to fp32, its device, and what its batches cost.

    Raises:
        ValueError: it cannot be loaded so, or its precision is too far from fp32; one sentence.
    """
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

    model, parity = prepare(tuned, device, config.precision, config.max_batch, notes)
    # The networks that were tried and let go leave more behind than the one that was kept takes.
    free_memory(device)
    give_back_freed_memory()
    loaded_s = monotonic()
    calibration = calibrate(model, config, device, notes, parity.precision)
    log.info(
        "Loaded %s in %s on %s in %.1f s, warmed up in %.1f s. Recipe: %s. Precision %s: %s",
        config.model_name,
        parity.precision,
        device,
        loaded_s - begun_s,
        monotonic() - loaded_s,
        ", ".join(model.recipe()) or "plain",
        parity.precision,
        parity.reason,
    )
    return model, parity, device, calibration
