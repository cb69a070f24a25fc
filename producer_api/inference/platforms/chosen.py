"""Which model a path asks that names none. Pure."""

from __future__ import annotations

from collections.abc import Callable

from producer_api.queue.admission import no_model_known
from producer_api.queue.interface import Catalogue
from shared.wire.outcomes import UNKNOWN_MODEL, RequestError

ChosenModel = Callable[[], str]


def chosen_model(catalogue: Catalogue, default: str | None) -> str:
    """Return the model of the setting, else the only one that is served or about to be.

    Raises:
        RequestError: ``UNKNOWN_MODEL``: there are several, or none; ``QUEUE_UNAVAILABLE``.
    """
    if default is not None:
        return default
    states = catalogue.models.values()
    names = [state.name for state in states if state.workers or state.ready_in_s is not None]
    names = names or [state.name for state in states]
    if len(names) == 1:
        return names[0]
    if not names and not catalogue.redis_ok:
        raise no_model_known()
    why = "no model has been served yet" if not names else "several models are served"
    raise RequestError(UNKNOWN_MODEL, f"This path names no model, and {why}; HEADRACE_DEFAULT_MODEL names one.")
