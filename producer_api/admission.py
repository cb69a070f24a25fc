"""Whether a request may enter, decided from what is known without asking anybody. Pure."""

from __future__ import annotations

from shared.outcomes import NO_WORKER, OVERLOADED, QUEUE_UNAVAILABLE, UNKNOWN_MODEL, Outcome, RequestError

from .queue import Catalogue, ModelState

RETRY_AFTER_S = 1


def refusal(outcome: Outcome, message: str, request_id: str | None = None) -> RequestError:
    """Make the error of a request that was not let in; it may be sent again after ``RETRY_AFTER_S``."""
    return RequestError(outcome, message, request_id=request_id, retry_after_s=RETRY_AFTER_S if outcome.retry else None)


def find_model(catalogue: Catalogue, model: str) -> ModelState:
    """Return the state of ``model``.

    Raises:
        RequestError: ``UNKNOWN_MODEL``, or ``QUEUE_UNAVAILABLE`` when no model is known because Redis never answered.
    """
    state = catalogue.models.get(model)
    if state is None:
        if not catalogue.redis_ok:
            raise refusal(QUEUE_UNAVAILABLE, "Redis does not answer, so no model is known.")
        raise RequestError(UNKNOWN_MODEL, f"There is no model {model[:64]!r}; GET /v1/models lists those there are.")
    return state


def admit(catalogue: Catalogue, model: str, in_flight: int, max_in_flight: int) -> ModelState:
    """Let a request in as far as this front end can tell.

    Args:
        in_flight: requests that wait in this process, this one excluded.
        max_in_flight: most of them.

    Raises:
        RequestError: ``UNKNOWN_MODEL``, ``QUEUE_UNAVAILABLE``, ``NO_WORKER`` or ``OVERLOADED``.
    """
    state = find_model(catalogue, model)
    if not catalogue.redis_ok:
        raise refusal(QUEUE_UNAVAILABLE, "Redis does not answer.")
    if state.workers == 0 or state.card is None:
        raise refusal(NO_WORKER, f"No consumer is running for model {model!r}.")
    if in_flight >= max_in_flight:
        raise refusal(OVERLOADED, f"This front end already has {in_flight} requests waiting.")
    return state
