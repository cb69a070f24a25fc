"""`headrace tune`: the fastest runtime of a model, found before it serves [I/O].

The search is a process of its own, ``python -m consumer.tune``, with the threads that a consumer of it will have.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import click

from headrace import sizing
from headrace.checking import extras
from headrace.output import print_json, print_table
from headrace.redis.access import end
from headrace.sizing import Place
from headrace.table import printable
from shared.model_config import load, pick
from shared.modules import full_name
from shared.process.exit_codes import WRONG_CONFIGURATION
from shared.process.machine import this_machine
from shared.process.search_steps import Found, Step, Trying, Waiting, decode
from shared.redis.embedded import dies_with_parent
from shared.settings import Settings, SettingsError

from . import tuning

EXIT_FAILED: Final = 1
END_S = 15.0
"""Time for a search to end by itself after SIGTERM: it checks between two batches of its model."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one model; ``found`` is None where its search failed."""

    place: Place
    status: int
    found: Found | None = None


def run(
    environment: Mapping[str, str], models: Sequence[str], again: bool, precision: str | None, as_json: bool
) -> int:
    """Carry out the command and return its exit code: that of the first model that failed, else 0.

    Args:
        again: search although something was found before.
        precision: instead of what environment and models file ask for.
    """
    try:
        places = _places(environment, models)
    except SettingsError as error:
        end(str(error), WRONG_CONFIGURATION)
    options = [*(["--again"] if again else []), *(["--precision", precision] if precision else [])]
    outcomes: list[Outcome] = []
    with _interruptible():
        for place in places:
            outcomes.append(_search(environment, place, options))
    if as_json:
        print_json({"models": [_record(one) for one in outcomes]})
    else:
        _print(outcomes)
    return next((one.status for one in outcomes if one.status), 0)


def _places(environment: Mapping[str, str], models: Sequence[str]) -> list[Place]:
    settings = Settings.from_env(environment)
    table, machine = load(settings.models_file), this_machine(environment)
    chosen = {model: pick(table, model, settings.models_file) for model in models}
    if (lacking := extras.missing_for(chosen)) is not None:
        raise SettingsError(lacking)
    return [sizing.place_of(settings, table, model, machine) for model in dict.fromkeys(models)]


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, and both of them in a script's background, too, where Ctrl-C is ignored."""

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _search(environment: Mapping[str, str], place: Place, options: Sequence[str]) -> Outcome:
    argv = [sys.executable, "-m", full_name("consumer.tune"), "--model", place.model, "--steps", *options]
    # What its log says step by step is said here.
    own = {"HEADRACE_LOG_LEVEL": "warning", **environment, **place.environment}
    process = subprocess.Popen(
        argv,
        env=own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C is for this process, which ends the search in order
        preexec_fn=dies_with_parent(),
    )
    try:
        found = _follow(process, place)
        return _outcome(place, process.wait(), found)
    except KeyboardInterrupt as interrupt:
        _stop(process)
        end(f"Interrupted; nothing of this search for {place.model} was kept.", 128 + interrupt.args[0])


def _follow(process: subprocess.Popen[bytes], place: Place) -> Found | None:
    """Say on standard error how it goes, until it is over."""
    _say(place, f"looking for the fastest runtime, with {_threads(place)} for a batch.")
    assert process.stdout is not None
    found = None
    for line in process.stdout:
        step = decode(line)
        if isinstance(step, Found):
            found = step
        elif step is not None:
            _say(place, _told(step))
    return found


def _told(step: Step) -> str:
    if isinstance(step, Waiting):
        return "another process looks for it at this moment; waiting for what it finds."
    assert isinstance(step, Trying)
    return f"trying {step.runtime} in {step.precision}; {step.used_s:.0f} of {step.budget_s:g} s are used."


def _outcome(place: Place, status: int, found: Found | None) -> Outcome:
    if status < 0:
        _say(place, f"the search was ended by signal {-status}.")
        return Outcome(place, EXIT_FAILED)
    if status == 0 and found is None:
        _say(place, "the search ended without saying what it found.")
        return Outcome(place, EXIT_FAILED)
    return Outcome(place, status, found)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _say(place: Place, sentence: str) -> None:
    click.echo(f"headrace: {place.model}: {printable(sentence)}", err=True)


def _threads(place: Place) -> str:
    if place.threads is None:
        return "the threads of a consumer beside a GPU" if place.gpu is not None else "threads of its own choice"
    return "1 thread" if place.threads == 1 else f"{place.threads} threads"


def _print(outcomes: Sequence[Outcome]) -> None:
    trials = [(one.place.model, trial) for one in outcomes if one.found for trial in one.found.tuning.trials]
    if trials:
        print_table(
            tuning.HEADER,
            [tuning.trial_row(model, trial) for model, trial in trials],
            [tuning.colour(trial) for _, trial in trials],
        )
    for one in outcomes:
        if one.found is not None:
            click.echo(f"headrace: {printable(_sentence(one.place, one.found))}")


def _sentence(place: Place, found: Found) -> str:
    when = (
        f"found in {found.searched_s:.0f} s of processor time"
        if found.is_new
        else "found before; --again searches again"
    )
    runs = f"{place.model} runs in {found.runtime} in {found.precision}, best with {found.preferred} rows"
    reason = f" {found.tuning.reason}" if found.tuning.state == "refused" else ""
    return f"{runs} ({when}).{reason} {found.tuning.batching}".rstrip() + f" It is kept in {found.folder}."


def _record(outcome: Outcome) -> dict[str, Any]:
    place, found = outcome.place, outcome.found
    record: dict[str, Any] = {"model": place.model, "exit_code": outcome.status, "threads": place.threads}
    if found is None:
        return record
    return {
        **record,
        "runtime": found.runtime,
        "precision": found.precision,
        "preferred": found.preferred,
        "searched_s": round(found.searched_s, 3),
        "is_new": found.is_new,
        "folder": found.folder,
        "tuning": tuning.record(found.tuning),
    }
