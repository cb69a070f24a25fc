"""`headrace pause`, `resume` and `drain`: what a model does with requests, changed while it runs [I/O]."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import click

from headrace.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TIMEOUT
from headrace.output import print_json
from headrace.redis import inspection
from headrace.redis.access import check_model, end
from shared import keys
from shared.state import desired_state
from shared.state.desired_state import Serving, WorkerState

from .precision import states
from .progress import DrainProgress

NOTICED_S: Final = 2.0
"""After this time every front end that Redis answers has taken notice: it looks once a second."""

_POLL_S: Final = 0.1
_CODES: Final = {"done": 0, "stored": 0, "ended": EXIT_FAILED, "timeout": EXIT_TIMEOUT}


def run(client: Any, model: str, serving: Serving, timeout_s: float, as_json: bool) -> int:
    """Pause or resume ``model``, wait until every live worker has followed, and return the exit code."""
    check_model(client, model)
    set_serving(client, model, serving)
    give_up_s = time.monotonic() + timeout_s
    try:
        while (outcome := judge(serving, states(client, model))) == "waiting":
            if time.monotonic() >= give_up_s:
                outcome = "timeout"
                break
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        end(f"No longer waiting; {model} stays {serving}.", EXIT_INTERRUPTED)
    return _report(model, serving, outcome, left(client, model), as_json)


def drain(client: Any, model: str, timeout_s: float, as_json: bool) -> int:
    """Have front ends refuse new requests, wait until nothing is left in any lane, and return the exit code."""
    check_model(client, model)
    set_serving(client, model, Serving.DRAINING)
    begun_s = time.monotonic()
    remaining = left(client, model)
    try:
        with DrainProgress(f"draining {model}", remaining) as progress:
            while True:
                since_s = time.monotonic() - begun_s
                outcome = _drained(client, model, remaining, since_s, timeout_s)
                if outcome != "waiting":
                    break
                progress.show(remaining, len(states(client, model)))
                time.sleep(_POLL_S)
                remaining = left(client, model)
    except KeyboardInterrupt:
        end(f"No longer waiting; {model} stays {Serving.DRAINING}.", EXIT_INTERRUPTED)
    return _report(model, Serving.DRAINING, outcome, remaining, as_json)


def set_serving(client: Any, model: str, serving: Serving) -> None:
    """Store what ``model`` is to do from now on."""
    if serving is Serving.OPEN:
        client.hdel(keys.desired_state(model), desired_state.SERVING)
    else:
        client.hset(keys.desired_state(model), desired_state.SERVING, serving)


def current(client: Any, model: str) -> Serving:
    """Return what an operator asked of ``model``."""
    return desired_state.serving_from(client.hget(keys.desired_state(model), desired_state.SERVING))


def left(client: Any, model: str) -> int:
    """Return how many requests are in the lanes of ``model``, waiting and running."""
    return sum(client.xlen(keys.work(model, lane)) for lane in inspection.lane_settings(client, model))


def judge(serving: Serving, found: Mapping[str, WorkerState]) -> str:
    """Say whether the live workers follow: ``done``, ``stored`` when there is none, or ``waiting``. Pure."""
    if not found:
        return "stored"
    rest = serving is Serving.PAUSED
    return "done" if all((state.serving == Serving.PAUSED) is rest for state in found.values()) else "waiting"


def _drained(client: Any, model: str, remaining: int, since_s: float, timeout_s: float) -> str:
    if current(client, model) is not Serving.DRAINING:
        return "ended"
    if remaining == 0 and since_s >= NOTICED_S:
        return "done"
    return "timeout" if since_s >= timeout_s else "waiting"


def _report(model: str, serving: Serving, outcome: str, remaining: int, as_json: bool) -> int:
    if as_json:
        print_json({"model": model, "serving": serving, "outcome": outcome, "left": remaining})
    else:
        click.echo(f"headrace: {_sentence(model, serving, outcome, remaining)}")
    return _CODES[outcome]


def _sentence(model: str, serving: Serving, outcome: str, remaining: int) -> str:
    if outcome == "ended":
        return f"somebody else ended the drain of {model}; {remaining} requests are left."
    if outcome == "timeout":
        late = f"{remaining} requests are left" if serving is Serving.DRAINING else "not every worker has followed"
        return f"the time ran out; {late}, and {model} stays {serving}."
    if outcome == "stored":
        return f"{model} is {serving}; no worker of it lives now, and the next that starts follows."
    return {
        Serving.OPEN: f"{model} is open: it accepts and answers requests.",
        Serving.PAUSED: f"{model} is paused: nothing is claimed, {remaining} requests are left. `resume` ends it.",
        Serving.DRAINING: f"{model} is drained: nothing is left, and front ends refuse new requests until `resume`.",
    }[serving]
