"""``python -m consumer.tune --model NAME``: find the fastest runtime and precision for a model on this machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

import click

from shared.exit_codes import MODEL_CANNOT_LOAD, WRONG_CONFIGURATION
from shared.logs import configure
from shared.model_config import NETWORK_FAMILIES
from shared.search_steps import Found, Step, Trying, Waiting, encode
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
from .tuning.race import Candidate
from .tuning.store import Store
from .tuning.tuner import has_lost_parent

log = logging.getLogger("consumer.tune")

CANNOT_KEEP = 1
LOOK_S = 1.0

Tell = Callable[[Step], None]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", "model_name", required=True, help="Model to tune, a name in models.toml.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Instead of what environment and models file ask for.")
@click.option("--background", is_flag=True, help="With the lowest priority, and only as long as the parent lives.")
@click.option("--again", is_flag=True, help="Search although something was found before.")
@click.option("--steps", is_flag=True, help="Write each step on standard output, a JSON object a line.")
def main(model_name: str, precision: str | None, background: bool, again: bool, steps: bool) -> None:
    """Try every runtime and precision there is here on one model, and keep what is fastest for its consumers."""
    try:
        config = resolve(Settings.from_env(os.environ), model_name, 0)
    except SettingsError as error:
        _refuse(str(error))
    if config.model.family not in NETWORK_FAMILIES:
        _refuse(f"Model {model_name} has no runtime to choose, because its family is {config.model.family!r}.")
    if precision is not None:
        config = replace(config, precision=precision)
    tell = _teller() if steps else lambda step: None
    configure(config.settings.log_level, config.settings.log_format)
    ended_by = _end_on_signals()
    if background:
        config = _with_threads(config)
        _step_back()
    try:
        sys.exit(_tune(config, again, tell))
    except ModelCannotLoad as error:
        if ended_by:  # in the model's code, where a signal looks like a fault of the model
            sys.exit(128 + ended_by[0])
        error.tell(log)
        sys.exit(MODEL_CANNOT_LOAD)
    except OSError as error:
        log.error("What is found cannot be kept: %s", error)
        sys.exit(CANNOT_KEEP)


def _end_on_signals() -> list[int]:
    """Have signals end this process so that nothing is left half made; returns a list that will hold the first one."""
    ended_by: list[int] = []

    def end(number: int, _: object) -> None:
        ended_by.append(number)
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return ended_by


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(WRONG_CONFIGURATION)


def _teller() -> Tell:
    """Keep standard output for the steps; what libraries print there goes where the log goes."""
    output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(step: Step) -> None:
        with suppress(OSError):  # nobody reads any more, and what is found is kept all the same
            os.write(output, encode(step))

    return tell


def _with_threads(config: ConsumerConfig) -> ConsumerConfig:
    """Settle the threads while this process may use the cores of its consumer and no others."""
    device = pick_device(config.settings.device, config.model.family)
    return replace(config, settings=replace(config.settings, torch_threads=threads_of(config.settings, device)))


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


def _tune(config: ConsumerConfig, again: bool, tell: Tell) -> int:
    device = pick_device(config.settings.device, config.model.family)
    store = store_of(config, device)
    with store.lock(on_wait=lambda: tell(Waiting())):
        entry = store.find()  # another consumer's search may just have ended
        if entry is None or again:
            finding = _search(config, device, store, tell)
            _log(config.model_name, finding)
        else:
            finding = entry.finding
            log.info("What is fastest for %s was found before: %s", config.model_name, finding.tuning.reason)
    kept = (finding.runtime, finding.precision, finding.preferred, finding.searched_s)
    tell(Found(*kept, is_new=entry is None or again, folder=str(store.folder), tuning=finding.tuning))
    return 0


def _log(model: str, finding: Finding) -> None:
    log.info("Tuned %s in %.0f s of processor time:", model, finding.searched_s)
    for line in table(finding):
        log.info("%s", line)
    if finding.refusal:
        log.warning("%s: %s", model, finding.refusal)


def _search(config: ConsumerConfig, device: str, store: Store, tell: Tell) -> Finding:
    prepare_for_torch()
    import torch

    from .runtimes.registry import candidates, runtime
    from .tuning.search import Limits, Search

    threads = threads_of(config.settings, device)
    torch.set_num_threads(threads)
    with told_as_the_models(config.model_name):
        model = build(config.model_name, config.model)
        assert isinstance(model, Classifier)
        network = model.network()
        photographs = model.photographs(network.spec)
    limits = Limits(config.buckets, threads, config.settings.tune_budget_s)
    asked = config.settings.runtime or config.model.runtime

    def on_try(candidate: Candidate, used_s: float) -> None:
        tell(Trying(candidate.runtime, candidate.precision, used_s, limits.budget_s))

    with store.room() as room:
        search = Search(network, photographs, device, limits, room, on_try=on_try)
        offered, missing = candidates(device, asked, config.precision)
        for candidate, why in missing:
            search.race.out(candidate, why)
        with told_as_the_models(config.model_name):
            search.run(offered, runtime("torch"))
        finding = search.finding(asked, config.precision)
        store.put(finding, network.spec, search.folder_of(finding))
    return finding


if __name__ == "__main__":
    main()
