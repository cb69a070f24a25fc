"""[I/O] `loadgen wait`: until one real inference has succeeded, or a model's workers say that it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from loadgen.errors import LoadgenError
from loadgen.scenario import Payload, Target

from .service import (
    UNAUTHORIZED,
    NotServed,
    UnknownModel,
    Unreachable,
    infer,
    is_answer,
    read_card,
    refusal,
    sample_payload,
)

_ATTEMPT_S: Final = 15.0
_SHORTEST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5
_PAUSE_SHARE: Final = 0.04
"""Of what has passed: so much later than it could be the end is noticed, at most."""

_QUIET_S: Final = 2.0
_SAY_EVERY_S: Final = 5.0
_HOPELESS: Final = (400, *UNAUTHORIZED, 405, 406, 413, 415, 422)
"""Statuses that more waiting does not change: the service is up and refuses this request."""


_ABOUT_THE_REQUEST: Final = (400, 405, 406, 413, 415, 422, 500)
"""Statuses of a request that a worker has looked at."""


class NotYet(Exception):
    """The attempt failed in a way that waiting may cure."""


def attempt(target: Target, model: str, payload: Payload | None, timeout_s: float, workers: int = 1) -> str:
    """Ask once for an inference, and whether as many workers live as are expected.

    Workers report that they live once they have tried their model, and know better than a request that was made up
    here whether it is ready: one that is refused shows no more than that it did not fit.

    Returns:
        Nothing after an inference; else why there was none although the model is ready.

    Raises:
        NotYet: with the reason, when the service is not ready.
        LoadgenError: when it answers and will never accept this request.
    """
    try:
        card = {} if payload and workers == 1 else read_card(target, model, timeout_s)
        if card is None:
            raise NotYet(f"{target.model_path(model)} does not show the model's card")
        if workers > 1 and _count(card) < workers:
            raise NotYet(f"{card.get('workers')} of {workers} workers of {model!r} live")
        chosen = payload or _made_up(card, workers)
        if isinstance(chosen, str):
            return chosen
        reply = infer(target, model, chosen, timeout_s)
    except (Unreachable, UnknownModel, NotServed) as error:
        raise NotYet(str(error).rstrip(".")) from None
    if is_answer(reply):
        return ""
    if payload is None and reply.status in _ABOUT_THE_REQUEST and _count(card) >= workers:
        return f"the request that was made up for it ends with {reply.error_sentence().rstrip('.')}"
    if reply.status in _HOPELESS:
        raise refusal(target, model, reply)
    reason = "an answer without predictions or outputs" if reply.status == 200 else reply.error_sentence()
    raise NotYet(f"{model!r} answers with {reason}".rstrip("."))


def _made_up(card: Mapping[str, Any], workers: int) -> Payload | str:
    """Return a request for a model, or why there is none although enough workers live."""
    if "example" in card and card["example"] is None and card.get("family") == "python" and _count(card) >= workers:
        return "its card has no example to send, and its inputs do not say what it takes"
    try:
        return sample_payload(card)
    except LoadgenError as error:
        if _count(card) < workers:
            raise
        return f"no request could be made up for it: {str(error).rstrip('.')}"


def _count(card: Mapping[str, Any]) -> int:
    """Return how many workers a card tells of; none where it says nothing of them."""
    workers = card.get("workers")
    return workers if isinstance(workers, int) else 0


def wait_for(
    target: Target,
    models: tuple[str, ...],
    payload: Payload | None,
    timeout_s: float,
    say: Callable[[str], None],
    workers: int = 1,
) -> None:
    """Return once every model has answered one real inference, or is ready as its workers say.

    Args:
        payload: what to send, which must succeed. None sends the card's example, or else the plainest request that fits
            the card, and one that is refused changes nothing.
        say: receives a sentence now and then when it takes long.
        workers: how many must live for each model.

    Raises:
        LoadgenError: when the time is out, with the last reason.
    """
    start_s = time.monotonic()
    said_s = start_s + _QUIET_S - _SAY_EVERY_S
    for model in models:
        while True:
            left_s = start_s + timeout_s - time.monotonic()
            try:
                unasked = attempt(target, model, payload, max(0.05, min(_ATTEMPT_S, left_s)), workers)
                if unasked:
                    say(f"Model {model!r} is ready, as its workers say; {unasked}.")
                break
            except NotYet as reason:
                now_s = time.monotonic()
                pause_s = min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, _PAUSE_SHARE * (now_s - start_s)))
                if now_s + pause_s >= start_s + timeout_s:
                    raise LoadgenError(f"No inference succeeded within {timeout_s:.4g} s: {reason}.") from None
                if now_s - said_s >= _SAY_EVERY_S:
                    said_s = now_s
                    say(f"Waiting for {model!r}, {now_s - start_s:.0f} of {timeout_s:.4g} s: {reason}.")
            time.sleep(pause_s)
