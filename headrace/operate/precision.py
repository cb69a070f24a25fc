"""`headrace precision`: what runs where and why, and switching it while it runs [I/O]."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from headrace.exit_codes import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TIMEOUT, EXIT_USAGE
from headrace.redis.access import check_model, end
from headrace.table import table
from shared import keys
from shared.names import is_name
from shared.settings import PRECISIONS
from shared.state import desired_state
from shared.state.desired_state import DesiredPrecision, Progress, WorkerState

_POLL_S: Final = 0.1

States = Mapping[str, WorkerState]


def run(client: Any, model: str, value: str | None, timeout_s: float, as_json: bool) -> int:
    """Carry out the command and return its exit code.

    Args:
        client: a Redis client that answers in bytes.
        value: a precision, ``default``, or None to change nothing.
    """
    _check(client, model, value)
    if value is None:
        desired = current(client, model)
        _print(model, desired, states(client, model), "shown", as_json)
        return EXIT_DONE
    desired = ask_for(client, model, value)
    try:
        found = _wait(client, model, desired, timeout_s)
    except KeyboardInterrupt:
        end(f"No longer waiting; {value} stays the desired precision.", EXIT_INTERRUPTED)
    outcome = judge(desired, found)
    _print(model, desired, found, outcome, as_json)
    return {"done": EXIT_DONE, "stored": EXIT_DONE, "refused": EXIT_FAILED}.get(outcome, EXIT_TIMEOUT)


def _check(client: Any, model: str, value: str | None) -> None:
    if value is not None and value not in (*PRECISIONS, desired_state.DEFAULT):
        choices = ", ".join((*PRECISIONS, desired_state.DEFAULT))
        end(f"The precision must be one of {choices}, not {value[:80]!r}.", EXIT_USAGE)
    check_model(client, model)


def current(client: Any, model: str) -> DesiredPrecision | None:
    """Return what the operator asked of ``model`` last."""
    return desired_state.from_fields(
        *client.hmget(keys.desired_state(model), [desired_state.PRECISION, desired_state.TOKEN])
    )


def ask_for(client: Any, model: str, precision: str) -> DesiredPrecision:
    """Store a new precision for ``model`` and return it."""
    desired = DesiredPrecision(precision, secrets.token_hex(8))
    client.hset(
        keys.desired_state(model),
        mapping={desired_state.PRECISION: desired.precision, desired_state.TOKEN: desired.token},
    )
    return desired


def states(client: Any, model: str) -> States:
    """Return what each live worker of ``model`` says of itself, by name."""
    names = sorted(name.decode(errors="replace") for name in client.zrange(keys.workers(model), 0, -1))
    found = {name: client.hgetall(keys.worker(model, name)) for name in names if is_name(name)}
    # A silent worker stays in the list for a while; its own hash is gone after a lease.
    return {name: desired_state.from_hash(fields) for name, fields in found.items() if fields}


def judge(desired: DesiredPrecision, found: States) -> str:
    """Say how it stands: ``done``, ``refused``, ``stored`` when nobody is there, or ``waiting``. Pure."""
    if not found:
        return "stored"
    if not all(is_settled(desired, state) for state in found.values()):
        return "waiting"
    return "refused" if any(state.progress == Progress.REFUSED for state in found.values()) else "done"


def is_settled(desired: DesiredPrecision, state: WorkerState) -> bool:
    """Say whether a worker has done or refused it."""
    return state.token == desired.token and state.progress in (Progress.DONE, Progress.REFUSED)


def _wait(client: Any, model: str, desired: DesiredPrecision, timeout_s: float) -> States:
    """Wait until every live worker has done or refused it, and say on standard error how it goes."""
    give_up_s = time.monotonic() + timeout_s
    told: dict[str, str] = {}
    while True:
        found = states(client, model)
        for name, state in found.items():
            progress = state.progress if state.token == desired.token else "not seen yet"
            if told.get(name) != progress:
                told[name] = progress
                click.echo(f"headrace: {name}: {progress}", err=True)
        if judge(desired, found) != "waiting" or time.monotonic() >= give_up_s:
            return found
        time.sleep(_POLL_S)


def _print(model: str, desired: DesiredPrecision | None, found: States, outcome: str, as_json: bool) -> None:
    if as_json:
        workers = [{"worker": name, **_record(desired, state)} for name, state in found.items()]
        asked = None if desired is None else desired.precision
        click.echo(json.dumps({"model": model, "wish": asked, "outcome": outcome, "workers": workers}, indent=1))
        return
    if found:
        header = ("WORKER", "RUNS", "DEVICE", "SWITCH", "WHY")
        click.echo(table(header, [_row(name, desired, state) for name, state in found.items()]))
    click.echo(f"headrace: {_sentence(model, desired, found, outcome)}")


def _progress(desired: DesiredPrecision | None, state: WorkerState) -> str:
    if desired is None:
        return ""
    return state.progress if state.token == desired.token else "not seen yet"


def _record(desired: DesiredPrecision | None, state: WorkerState) -> dict[str, str]:
    return {
        "precision": state.precision,
        "device": state.device,
        "progress": _progress(desired, state),
        "why": state.why,
        "refusal": state.refusal,
    }


def _row(name: str, desired: DesiredPrecision | None, state: WorkerState) -> Sequence[str]:
    return name, state.precision, state.device, _progress(desired, state) or "-", state.refusal or state.why


def _sentence(model: str, desired: DesiredPrecision | None, found: States, outcome: str) -> str:
    asked = f"desired precision {desired.precision}" if desired is not None else "no desired precision"
    late = sum(desired is not None and not is_settled(desired, state) for state in found.values())
    return {
        "shown": f"{len(found)} live workers of {model}; {asked} is in force.",
        "done": f"every worker of {model} has switched to {asked}.",
        "refused": f"{asked} was refused; workers that refused continue as before, and the table says why.",
        "stored": f"no worker of {model} is alive now; the next one that starts uses {asked}.",
    }.get(outcome, f"timeout; {late} of {len(found)} workers are not ready, but {asked} stays in force.")
