"""Whether to admit a request, decided from what this process knows. Pure."""

from __future__ import annotations

import math

from producer_api.load.cold_room import ColdRoom
from producer_api.load.wait_estimate import MOST_RETRY_AFTER_S, Backlog, Service
from shared.keys import DEFAULT_LANE
from shared.state.cards import Card
from shared.state.desired_state import Serving
from shared.wire.outcomes import (
    DRAINING,
    LOADING,
    NO_WORKER,
    OVERLOADED,
    QUEUE_OUT_OF_MEMORY,
    QUEUE_UNAVAILABLE,
    UNKNOWN_LANE,
    UNKNOWN_MODEL,
    WAIT_TOO_LONG,
    Outcome,
    RequestError,
)

from .interface import Catalogue, ModelState

RETRY_AFTER_S = 1
DRAIN_RETRY_S = 10
"""It is unknown when an operator will end a drain."""


def refusal(
    outcome: Outcome, message: str, request_id: str | None = None, retry_after_s: int = RETRY_AFTER_S
) -> RequestError:
    """Make the error of a request that was not let in; if it may be sent again, then after ``retry_after_s``."""
    return RequestError(outcome, message, request_id=request_id, retry_after_s=retry_after_s if outcome.retry else None)


def find_model(catalogue: Catalogue, name: str, key: str) -> ModelState:
    """Return the state of the model that answers a request for ``name``, see :meth:`Catalogue.resolve`.

    Raises:
        RequestError: ``UNKNOWN_MODEL``, or ``QUEUE_UNAVAILABLE`` when no model is known because Redis never answered.
    """
    state = catalogue.resolve(name, key)
    if state is None:
        raise _unknown(catalogue, name)
    return state


def no_model_known() -> RequestError:
    """Make the error for requests about models while Redis has never answered."""
    return refusal(QUEUE_UNAVAILABLE, "Redis does not answer, so no model is known.")


def _unknown(catalogue: Catalogue, name: str) -> RequestError:
    if not catalogue.redis_ok:
        return no_model_known()
    return RequestError(UNKNOWN_MODEL, f"There is no model {name[:64]!r}; GET /v1/models lists those there are.")


def admit(catalogue: Catalogue, name: str, key: str) -> ModelState:
    """As :func:`let_in`; a model whose card is not known yet takes nothing."""
    state = let_in(catalogue, name, key)
    if state.card is None:
        raise not_served(state)
    return state


def let_in(catalogue: Catalogue, name: str, key: str) -> ModelState:
    """Return the state of the model that takes a request for ``name`` now, as far as this front end can tell.

    One that is cold takes requests that wait for a consumer. Its card may not be known yet: then they wait with
    :meth:`Queue.await_card`.

    Raises:
        RequestError: ``UNKNOWN_MODEL``, ``QUEUE_UNAVAILABLE``, ``QUEUE_OUT_OF_MEMORY``, ``DRAINING``, ``LOADING``,
            ``NO_WORKER``.
    """
    state = catalogue.resolve(name, key)
    if state is None:
        raise _unknown(catalogue, name)
    if not catalogue.redis_ok:
        raise refusal(QUEUE_UNAVAILABLE, "Redis does not answer.")
    if catalogue.memory_full:
        raise refusal(QUEUE_OUT_OF_MEMORY, "The queue is nearly out of memory; what is in it is finished first.")
    if not state.is_open:
        if state.serving is Serving.DRAINING:
            raise refusal(DRAINING, f"Model {name!r} is being drained and takes no requests.", None, DRAIN_RETRY_S)
        if state.cold is None:
            raise not_served(state)
    return state


def card_of(state: ModelState) -> Card:
    """Return the card of a model.

    Raises:
        RequestError: ``NO_WORKER`` or ``LOADING``: nobody has described it yet.
    """
    if state.card is None:
        if state.workers:
            raise refusal(NO_WORKER, f"No worker has described model {state.name!r} yet.")
        raise not_served(state)
    return state.card


def not_served(state: ModelState) -> RequestError:
    """Make the error for a model without a live consumer: while it loads, with the time that is probably left."""
    if state.ready_in_s is None:
        return refusal(NO_WORKER, f"No consumer is running for model {state.name!r}.")
    message = f"Model {state.name!r} is loading; it will probably be ready in {state.ready_in_s} s."
    return refusal(LOADING, message, retry_after_s=state.ready_in_s)


def check_start(state: ModelState, wait_s: float, limit_s: float) -> None:
    """Refuse a request to a model without a live consumer whose answer would come too late.

    Args:
        wait_s: the seconds until its answer, as far as is known: the start and the requests ahead.
        limit_s: what the answer may take.

    Raises:
        RequestError: ``LOADING`` while a consumer is coming, else ``NO_WORKER``; with the wait.
    """
    assert state.cold is not None
    if wait_s <= limit_s:
        return
    seconds = math.ceil(wait_s)
    if state.cold.is_coming:
        message = (
            f"Model {state.name!r} is loading, and with the requests ahead of it the answer will probably take "
            f"{seconds} s, longer than the {limit_s:g} s that it may take."
        )
        raise refusal(LOADING, message, retry_after_s=seconds)
    message = (
        f"No consumer is running for model {state.name!r}; starting one and answering the requests ahead takes "
        f"about {seconds} s, longer than the {limit_s:g} s that the answer may take."
    )
    raise refusal(NO_WORKER, message, retry_after_s=seconds)


def check_cold(state: ModelState, room: ColdRoom, wait_s: float, limit_s: float, now_s: float) -> None:
    """Refuse a request to a model without a live consumer that would wait too long, or in vain.

    Args:
        wait_s, limit_s: see :func:`check_start`.

    Raises:
        RequestError: as there; ``NO_WORKER`` also where nobody has started a consumer for those that waited.
    """
    check_start(state, wait_s, limit_s)
    assert state.cold is not None
    if state.cold.is_coming:
        room.heeded(state.name)
    elif refused_s := room.refused_for_s(state.name, limit_s, now_s):
        message = f"No consumer is running for model {state.name!r}, and none was started for the requests that waited."
        raise refusal(NO_WORKER, message, retry_after_s=refused_s)


def no_room(state: ModelState, room: ColdRoom, wait_s: float) -> RequestError:
    """Make the error for a request that would wait for a consumer where too many do already."""
    message = f"Too many requests wait here for consumers to start: {sum(room.counts().values())}."
    return refusal(OVERLOADED, message, retry_after_s=math.ceil(wait_s))


def check_lane(state: ModelState, lane: str) -> None:
    """Refuse a request for a lane that the model does not have.

    Raises:
        RequestError: ``UNKNOWN_LANE``.
    """
    if lane not in state.lanes:
        raise RequestError(UNKNOWN_LANE, f"Model {state.name!r} has no lane {lane!r}, where your key's requests go.")


def check_open_lane(state: ModelState, lane: str) -> None:
    """Refuse a request for a lane that not everybody may choose: where no keys are required, one that is no batch lane.

    Raises:
        RequestError: ``UNKNOWN_LANE``.
    """
    if lane != DEFAULT_LANE and lane not in state.batch_lanes:
        message = (
            f"Model {state.name!r} has no batch lane {lane!r}, and without API keys no other can be chosen; "
            f"`headrace lane set {state.name} {lane} --kind batch` makes one."
        )
        raise RequestError(UNKNOWN_LANE, message, field="Headrace-Lane")


NUMBERED = "1"
"""What a version that is no whole number is shown as."""

_MOST_DIGITS = 18


def numbered(version: str) -> str:
    """Return a model's version as a whole number, which clients of the Open Inference Protocol expect it to be."""
    return version if version.isascii() and version.isdigit() and len(version) <= _MOST_DIGITS else NUMBERED


def is_version(asked: str, version: str) -> bool:
    """Say whether a client that asks for ``asked`` means ``version``: by its own name, or as it is shown."""
    return asked in (version, numbered(version))


class UnknownVersion(RequestError):
    """The model is there, and no consumer serves the version that was asked for."""


def check_version(state: ModelState, asked: str) -> None:
    """Refuse a request for a version that no consumer of the model serves.

    Raises:
        UnknownVersion: with ``UNKNOWN_MODEL``.
    """
    served = state.versions or (() if state.card is None else (state.card.version,))
    if not any(is_version(asked, one) for one in served):
        listed = ", ".join(served) or "none"
        raise UnknownVersion(UNKNOWN_MODEL, f"Model {state.name!r} has no version {asked[:64]!r}; it has {listed}.")


def check_wait(backlog: Backlog, service: Service, limit_s: float, now_s: float, own_s: float = 0.0) -> None:
    """Refuse a request whose answer would probably come too late.

    Args:
        limit_s: what the answer may take.
        own_s: what of it the request itself may take besides, since ``limit_s`` ends where it begins to run.

    Raises:
        RequestError: ``WAIT_TOO_LONG``, with the time after which there should be room again.
    """
    first = backlog.before_room(service, limit_s + own_s, now_s)
    if first > 0.0:
        what = "within which it must begin" if own_s else "that its answer may take"
        message = f"The requests ahead of this one need longer than the {limit_s:g} s {what}."
        raise refusal(WAIT_TOO_LONG, message, retry_after_s=backlog.retry_after_s(first))


def check_gaps(service: Service, ahead: int, limit_s: float) -> None:
    """Refuse a request of a batch lane whose time would be over even if nothing else ran but those ahead of it.

    Args:
        ahead: requests in the lane.
        limit_s: within which it must begin.

    Raises:
        RequestError: ``WAIT_TOO_LONG``.
    """
    if ahead > limit_s * service.rate:
        retry_after_s = min(MOST_RETRY_AFTER_S, max(1, math.ceil(ahead / service.rate - limit_s)))
        message = (
            f"Even with nothing else to do, the {ahead} requests ahead of this one in its batch lane take longer than "
            f"the {limit_s:g} s within which it must begin."
        )
        raise refusal(WAIT_TOO_LONG, message, retry_after_s=retry_after_s)
