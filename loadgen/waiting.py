"""[I/O] `loadgen wait`: until one real inference has succeeded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from .errors import LoadgenError
from .scenario import Payload, Target
from .service import UNAUTHORIZED, UnknownModel, Unreachable, infer, is_answer, read_card, refusal, sample_payload

_ATTEMPT_S: Final = 15.0
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
_QUIET_S: Final = 2.0
_SAY_EVERY_S: Final = 5.0
_HOPELESS: Final = (400, *UNAUTHORIZED, 405, 406, 413, 415, 422)
"""Statuses that more waiting does not change: the service is up and refuses this request."""


class NotYet(Exception):
    """The attempt failed in a way that waiting may cure."""


def attempt(target: Target, model: str, payload: Payload | None, timeout_s: float, workers: int = 1) -> None:
    """Ask once for an inference, and whether as many workers live as are expected.

    Raises:
        NotYet: with the reason, when the service is not ready.
        LoadgenError: when it answers and will never accept this request.
    """
    try:
        card = {} if payload and workers == 1 else read_card(target, model, timeout_s)
        if card is None:
            raise NotYet(f"{target.model_path(model)} does not show the model's card")
        if workers > 1 and int(card.get("workers") or 0) < workers:
            raise NotYet(f"{card.get('workers')} of {workers} workers of {model!r} live")
        reply = infer(target, model, payload or sample_payload(card), timeout_s)
    except (Unreachable, UnknownModel) as error:
        raise NotYet(str(error).rstrip(".")) from None
    if is_answer(reply):
        return
    if reply.status in _HOPELESS:
        raise refusal(target, model, reply)
    reason = "an answer without predictions or outputs" if reply.status == 200 else reply.error_sentence()
    raise NotYet(f"{model!r} answers with {reason}".rstrip("."))


def wait_for(
    target: Target,
    models: tuple[str, ...],
    payload: Payload | None,
    timeout_s: float,
    say: Callable[[str], None],
    workers: int = 1,
) -> None:
    """Return once every model has answered one real inference.

    Args:
        payload: what to send; None sends the plainest request that fits the model's card.
        say: receives a sentence now and then when it takes long.
        workers: how many must live for each model.

    Raises:
        LoadgenError: when the time is out, with the last reason.
    """
    start_s = time.monotonic()
    said_s = start_s + _QUIET_S - _SAY_EVERY_S
    for model in models:
        pause_s = _FIRST_PAUSE_S
        while True:
            left_s = start_s + timeout_s - time.monotonic()
            try:
                attempt(target, model, payload, max(0.05, min(_ATTEMPT_S, left_s)), workers)
                break
            except NotYet as reason:
                now_s = time.monotonic()
                if now_s + pause_s >= start_s + timeout_s:
                    raise LoadgenError(f"No inference succeeded within {timeout_s:.4g} s: {reason}.") from None
                if now_s - said_s >= _SAY_EVERY_S:
                    said_s = now_s
                    say(f"Waiting for {model!r}, {now_s - start_s:.0f} of {timeout_s:.4g} s: {reason}.")
            time.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)
