"""``python -m consumer.tune --model NAME``: find the fastest runtime and precision for a model on this machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

import click

from shared.exit_codes import MODEL_CANNOT_LOAD, WRONG_CONFIGURATION
from shared.logs import configure
from shared.model_config import NETWORK_FAMILIES
from shared.settings import PRECISIONS, Settings, SettingsError

from .allocator import prepare_for_torch
from .config import ConsumerConfig, resolve
from .devices import pick_device
from .load_errors import ModelCannotLoad, told_as_the_models
from .models.classifier import Classifier
from .models.registry import build
from .network_loading import store_of
from .threads import threads_of
from .tuning.findings import Finding, table
from .tuning.store import Store
from .tuning.tuner import has_lost_parent

log = logging.getLogger("consumer.tune")

CANNOT_KEEP = 1
LOOK_S = 1.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", "model_name", required=True, help="Model to tune, a name in models.toml.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Instead of what environment and models file ask for.")
@click.option("--background", is_flag=True, help="With the lowest priority, and only as long as the parent lives.")
@click.option("--again", is_flag=True, help="Search although something was found before.")
def main(model_name: str, precision: str | None, background: bool, again: bool) -> None:
    """Try every runtime and precision there is here on one model, and keep what is fastest for its consumers."""
    try:
        config = resolve(Settings.from_env(os.environ), model_name, 0)
    except SettingsError as error:
        _refuse(str(error))
    if config.model.family not in NETWORK_FAMILIES:
        _refuse(f"Model {model_name} has no runtime to choose, because its family is {config.model.family!r}.")
    if precision is not None:
        config = replace(config, precision=precision)
    configure(config.settings.log_level, config.settings.log_format)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left half made
    if background:
        _step_back()
    try:
        sys.exit(_tune(config, again))
    except ModelCannotLoad as error:
        error.tell(log)
        sys.exit(MODEL_CANNOT_LOAD)
    except OSError as error:
        log.error("What is found cannot be kept: %s", error)
        sys.exit(CANNOT_KEEP)


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(WRONG_CONFIGURATION)


def _step_back() -> None:
    """Take only the processor time that nobody else wants, on any core, and end with the parent."""
    os.nice(19)
    with suppress(AttributeError, OSError):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the consumer may be tied to one
    parent = os.getppid()

    def watch() -> None:
        while not has_lost_parent(parent):
            over.wait(LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    over = threading.Event()
    threading.Thread(target=watch, name="parent", daemon=True).start()


def _tune(config: ConsumerConfig, again: bool) -> int:
    device = pick_device(config.settings.device, config.model.family)
    store = store_of(config, device)
    with store.lock():
        entry = store.find()  # another consumer's search may just have ended
        if entry is None or again:
            with told_as_the_models(config.model_name):
                finding = _search(config, device, store)
        else:
            log.info("What is fastest for %s was found before: %s.", config.model_name, entry.finding.tuning.reason)
            return 0
    log.info("Tuned %s in %.0f s of processor time:", config.model_name, finding.searched_s)
    for line in table(finding):
        log.info("%s", line)
    if finding.refusal:
        log.warning("%s: %s", config.model_name, finding.refusal)
    return 0


def _search(config: ConsumerConfig, device: str, store: Store) -> Finding:
    prepare_for_torch()
    import torch

    from .runtimes.registry import candidates, runtime
    from .tuning.search import Limits, Search

    threads = threads_of(config.settings, device)
    torch.set_num_threads(threads)
    model = build(config.model_name, config.model)
    assert isinstance(model, Classifier)
    network = model.network()
    limits = Limits(config.buckets, threads, config.settings.tune_budget_s)
    asked = config.settings.runtime or config.model.runtime
    with store.room() as room:
        search = Search(network, model.photographs(network.spec), device, limits, room)
        offered, missing = candidates(device, asked, config.precision)
        for candidate, why in missing:
            search.race.out(candidate, why)
        search.run(offered, runtime("torch"))
        finding = search.finding(asked, config.precision)
        store.put(finding, network.spec, search.folder_of(finding))
    return finding


if __name__ == "__main__":
    main()
