"""``python -m consumer.tune --model NAME``: find the fastest runtime and precision for a model on this machine."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

import click

from shared.families import known
from shared.process.exit_codes import MODEL_CANNOT_LOAD, TRY_LATER, WRONG_CONFIGURATION
from shared.process.logs import configure
from shared.process.search_steps import Step, encode
from shared.settings import PRECISIONS, Settings, SettingsError

from .tuning import aside

log = logging.getLogger("consumer.tune")

CANNOT_KEEP = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", "model_name", required=True, help="Model to tune, a name in models.toml.")
@click.option("--precision", type=click.Choice(PRECISIONS), help="Instead of what environment and models file ask for.")
@click.option("--background", is_flag=True, help="With the lowest priority, and only if no other process does it.")
@click.option("--again", is_flag=True, help="Search although something was found before.")
@click.option("--steps", is_flag=True, help="Write each step on standard output, a JSON object a line.")
@click.option("--cores", default="", help="Cores to run on, such as 0 or 2,3, if others than those of the parent.")
@click.option("--parent", type=int, help="Process id of the parent: end when it does.")
@click.option("--but-not", type=int, help="Stamp of an entry that cannot be used.")
def main(
    model_name: str,
    precision: str | None,
    background: bool,
    again: bool,
    steps: bool,
    cores: str,
    parent: int | None,
    but_not: int | None,
) -> None:
    """Try every runtime and precision there is here on one model, and keep what is fastest for its consumers."""
    if background:
        aside.step_back()
    aside.move(cores)
    ending = Ending()
    if parent is not None:
        aside.end_with(parent)
    # After stepping back: with numpy this takes a while.
    from .config import resolve
    from .models.load_errors import ModelCannotLoad
    from .tune_task import Wanted, tune
    from .tuning.store import Busy

    try:
        config = resolve(Settings.from_env(os.environ), model_name, 0)
    except SettingsError as error:
        _refuse(str(error))
    family = known(config.model.family)
    if not family.is_network:
        named = ' What runs it is what its table names: runtime = "onnxruntime", the default, or "openvino".'
        said = f"Model {model_name} has no runtime to choose, because its family is {config.model.family!r}."
        _refuse(said + (named if family.library == "onnxruntime" else ""))
    if precision is not None:
        config = replace(config, precision=precision)
    tell = _teller() if steps else lambda step: None
    configure(config.settings.log_level, config.settings.log_format)
    try:
        tune(config, Wanted(not background, but_not, again), tell)
    except Busy:
        sys.exit(TRY_LATER)
    except ModelCannotLoad as error:
        if ending.status:
            sys.exit(ending.status)
        error.tell(log)
        sys.exit(MODEL_CANNOT_LOAD)
    except OSError as error:
        log.error("What is found cannot be kept: %s", error)
        sys.exit(CANNOT_KEEP)


class Ending:
    """Ends this process at the first signal that asks for it, so that nothing is left half made.

    Attributes:
        status: the exit code after a signal; 0 before.
    """

    def __init__(self) -> None:
        self.status = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def _end(self, number: int, _: object) -> None:
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_IGN)  # another one would interrupt the tidying up
        self.status = 128 + number
        sys.exit(self.status)


def _teller() -> Callable[[Step], None]:
    """Keep standard output for the steps; what libraries print there goes where the log goes."""
    output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(step: Step) -> None:
        with suppress(OSError):  # the reader has gone; the result is stored all the same
            os.write(output, encode(step))

    return tell


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(WRONG_CONFIGURATION)


def _leave(status: object) -> NoReturn:
    """End at once: taking torch and its like apart would cost the consumers another second or two of the processor."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


if __name__ == "__main__":
    try:
        main()
    except SystemExit as ending:
        _leave(ending.code)
