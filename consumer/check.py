"""``python -m consumer.check --model NAME``: whether a consumer of it would start; loads nothing, serves nothing."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from shared.process.exit_codes import MODEL_CANNOT_LOAD, WRONG_CONFIGURATION
from shared.results.opening import check_store
from shared.settings import Settings, SettingsError
from shared.tracing.start import start

from .batch_threads import threads_of
from .config import resolve
from .models.families import build
from .models.load_errors import ModelCannotLoad


@click.command()
@click.option("--model", required=True)
def main(model: str) -> None:
    """Do what a consumer does before it loads its model; the last line of standard error says what is wrong.

    The code of a model of one's own is imported.
    """
    try:
        config = resolve(Settings.from_env(os.environ), model, 0)
        check_store(config.settings)
        start(config.settings.tracing, "headrace-consumer")
        build(config.model_name, config.model, threads_of(config.settings))
    except SettingsError as error:
        _refuse(str(error), WRONG_CONFIGURATION)
    except ModelCannotLoad as error:
        _refuse(str(error), MODEL_CANNOT_LOAD)
    _end(0)


def _refuse(sentence: str, code: int) -> NoReturn:
    click.echo(sentence, err=True)
    _end(code)


def _end(code: int) -> NoReturn:
    """End at once: what a model's code has started while it was imported is not waited for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
