"""Loading a model: device, threads, precision, warm-up. Called on the thread that will run the model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, cast

from consumer.batch_threads import threads_of
from consumer.config import ConsumerConfig
from consumer.events import Parity
from consumer.models.base import Description, Model
from consumer.models.families import find
from consumer.models.load_errors import told_as_the_models
from consumer.models.own.checked_model import CheckedModel
from consumer.tuning.fingerprint import fingerprint
from shared.families import known
from shared.process.allocator import give_back_freed_memory
from shared.state.cards import Example

from .devices import pick_device
from .precision import free_memory, prepare
from .rehearsal import rehearse
from .start_cache import StartCache
from .torch_environment import prepare_for_torch
from .warmup import Calibration, calibrate

if TYPE_CHECKING:
    from consumer.models.vision.classifier import Classifier

    from .network import LoadedNetwork

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready to serve.

    Attributes:
        description: what it said of itself after loading.
        parity: how close its precision comes to fp32.
        calibration: what its batches cost.
        example: a request that it has answered, for people to copy.
        network: how it is run, where that was chosen.
    """

    model: Model
    description: Description
    parity: Parity
    device: str
    calibration: Calibration
    example: Example | None
    network: LoadedNetwork | None = None


def load_model(
    build: Callable[[], Model], config: ConsumerConfig, close: Callable[[Model], None] = Model.close
) -> Loaded:
    """Build, load, check the precision of, warm up and rehearse a model.

    Args:
        close: closes a model that is no longer used, because another precision is tried or because this one fails.

    Raises:
        ModelCannotLoad: it cannot be loaded so, its precision is too far from fp32, or its own samples fail. Whatever
            the model's code raises, ``SystemExit`` included, is told as this.
    """
    with told_as_the_models(config.model_name):
        return _load_model(build, config, close)


def _load_model(build: Callable[[], Model], config: ConsumerConfig, close: Callable[[Model], None]) -> Loaded:
    begun_s = monotonic()
    if known(config.model.family).is_network:
        from .network import NetworkLoader  # with numpy, which no other family needs

        prepare_for_torch()
        device = pick_device(config.settings.device, config.model.family)
        network = NetworkLoader(lambda: cast("Classifier", build()), config, device, close).load()
        loaded = _rehearsed(config, network.model, network.parity, device, network.calibration, close)
        loaded = replace(loaded, network=network)
    else:
        loaded = _load_own(build, config, close)
    log.info(
        "Loaded %s in %s on %s in %.1f s. %s",
        config.model_name,
        loaded.parity.precision,
        loaded.device,
        monotonic() - begun_s,
        loaded.parity.reason.capitalize(),
    )
    return loaded


def _load_own(build: Callable[[], Model], config: ConsumerConfig, close: Callable[[Model], None]) -> Loaded:
    """Load a model that is code of its own, in the precision that suits it best."""
    is_checked = find(config.model.family).is_checked
    if is_checked:
        build()  # imports the user's code, and with it torch if it uses torch
    if known(config.model.family).library == "torch":
        prepare_for_torch()
    device = pick_device(config.settings.device, config.model.family)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads_of(config.settings, device))
    start_cache = StartCache(Path(config.settings.data_dir) / "notes", config.model_name, fingerprint(config, device))

    def made() -> Model:
        model = build()
        return CheckedModel(model, lambda: free_memory(device)) if is_checked else model

    model, parity = prepare(made, device, config.precision, start_cache, config.max_batch, close)
    free_memory(device)  # what was tried and let go leaves more behind than what was kept takes
    give_back_freed_memory()
    try:
        calibration = calibrate(model, config, start_cache, parity.precision)
    except BaseException:
        close(model)
        raise
    return _rehearsed(config, model, parity, device, calibration, close)


def _rehearsed(
    config: ConsumerConfig,
    model: Model,
    parity: Parity,
    device: str,
    calibration: Calibration,
    close: Callable[[Model], None],
) -> Loaded:
    try:
        description = model.describe()
        example = rehearse(config.model_name, model, description)
    except BaseException:
        close(model)
        raise
    return Loaded(model, description, parity, device, calibration, example)
