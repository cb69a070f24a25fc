"""The task of the process that searches: one at a time per machine and model, and not what was found just now."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.process.search_steps import Found, Step, Trying, Waiting

from .batch_threads import threads_of
from .config import ConsumerConfig
from .loading.devices import pick_device
from .loading.network import store_of
from .loading.torch_environment import prepare_for_torch
from .models.load_errors import ModelCannotLoad, told_as_the_models
from .runtimes.spec import ClassifierSpec
from .tuning.findings import Finding, table
from .tuning.race import AUTO, Candidate
from .tuning.store import Store

log = logging.getLogger(__name__)

Tell = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The parameters of a search.

    Attributes:
        waits: for another process that tunes this model.
        but_not: stamp of an entry that cannot be used; None for none.
        again: search although there is an entry.
    """

    waits: bool = True
    but_not: int | None = None
    again: bool = False


def tune(config: ConsumerConfig, wanted: Wanted, tell: Tell) -> None:
    """Search and keep what was found, unless another one has found something meanwhile.

    Args:
        tell: told each step.

    Raises:
        Busy: another process tunes this model, and that is not waited for.
        ModelCannotLoad: torch cannot run the network.
        OSError: what is found cannot be kept.
    """
    device = pick_device(config.settings.device, config.model.family)
    store = store_of(config, device)
    with store.lock(wanted.waits, on_wait=lambda: tell(Waiting())):
        entry = store.find()
        is_new = entry is None or wanted.again or entry.stamp == wanted.but_not
        if entry is None or is_new:
            finding = _search(config, device, store, tell)
            _log(config.model_name, finding)
        else:
            finding = entry.finding
            log.info("What is fastest for %s was found before: %s", config.model_name, finding.tuning.reason)
    kept = (finding.runtime, finding.precision, finding.preferred, finding.searched_s)
    tell(Found(*kept, is_new=is_new, folder=str(store.folder), tuning=finding.tuning))


def _log(model: str, finding: Finding) -> None:
    log.info("Tuned %s in %.0f s of processor time:", model, finding.searched_s)
    for line in table(finding):
        log.info("%s", line)
    if finding.refusal:
        log.warning("%s: %s", model, finding.refusal)


def _search(config: ConsumerConfig, device: str, store: Store, tell: Tell) -> Finding:
    from .tuning.search import NoRoom

    with store.room() as room:
        try:
            with told_as_the_models(config.model_name):
                spec, finding, files = _found(config, device, room, tell)
        except ModelCannotLoad as error:
            if isinstance(error.__cause__, NoRoom):
                raise error.__cause__ from None
            raise
        store.put(finding, spec, files)
    return finding


def _found(config: ConsumerConfig, device: str, room: Path, tell: Tell) -> tuple[ClassifierSpec, Finding, Path]:
    """Search in ``room``; returns what a classifier has to know, the finding, and where its files are."""
    prepare_for_torch()
    import torch

    from .models.families import build
    from .models.vision.classifier import Classifier
    from .tuning.candidates import candidates, runtime
    from .tuning.search import Limits, Search

    threads = threads_of(config.settings, device)
    torch.set_num_threads(threads)
    model = build(config.model_name, config.model)
    assert isinstance(model, Classifier)
    network = model.network()
    asked = config.settings.runtime or config.model.runtime
    abandons = (asked, config.precision) == (AUTO, AUTO)
    limits = Limits(config.buckets, threads, config.settings.tune_budget_s, abandons)

    def on_try(candidate: Candidate, used_s: float) -> None:
        tell(Trying(candidate.runtime, candidate.precision, used_s, limits.budget_s))

    photographs = model.photographs(network.spec)
    search = Search(network, photographs, device, limits, room, on_try=on_try, begun_s=0.0)
    offered, missing = candidates(device, asked, config.precision)
    for candidate, why in missing:
        search.race.out(candidate, why)
    search.run(offered, runtime("torch"))
    finding = search.finding(asked, config.precision)
    return network.spec, finding, search.folder_of(finding)
