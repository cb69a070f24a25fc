"""The rehearsal: before a model serves, its own samples run through all of it, postprocess included.

A made-up request would only be a guess, and the model may be right to refuse it.
"""

from __future__ import annotations

import logging
from typing import Any

from consumer.models.base import Description, Model
from consumer.models.load_errors import ModelCannotLoad, said_by
from consumer.models.own import examples
from shared.state.cards import Example
from shared.wire.messages import Request

log = logging.getLogger(__name__)


class _StandIn(Request, frozen=True):
    """A request that was never made. It notes whether anybody looked for what it has not got."""

    looked_at: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("inputs", "body", "content_type"):
            self.looked_at.append(name)
        return super().__getattribute__(name)


def rehearse(name: str, model: Model, description: Description) -> Example | None:
    """Run samples through ``model``, and return a request that it was seen to answer, for people to copy.

    That is the one that the model declares, or else one made of its samples. One that it refuses is not shown, and
    changes nothing.

    Raises:
        ModelCannotLoad: ``run`` or ``postprocess`` fails on the model's own samples, or their answer is not what the
            model describes.
    """
    guess, count = _guess(model, description)
    _pass_samples(name, model, count, guess or _StandIn("rehearsal", examples.TTL_MS))
    own = _declared(model, description)
    if own is not None and _answers(model, own, logging.WARNING):
        return examples.published(own)
    return examples.published(guess) if guess is not None and _answers(model, guess, logging.DEBUG) else None


def _pass_samples(name: str, model: Model, count: int, request: Request) -> None:
    try:
        model.postprocess(model.run(model.sample_rows(count)), request)
    except BaseException as error:
        if isinstance(request, _StandIn) and request.looked_at:
            log.info(
                "The answers of model %s were not rehearsed: they depend on a request. Its example() would be one.",
                name,
            )
            return
        raise ModelCannotLoad(name, f"its own samples do not pass through it: {said_by(error)}") from error


def _guess(model: Model, description: Description) -> tuple[Request | None, int]:
    """Return a request that stands for samples and that the model accepts, and its number of rows."""
    try:
        guess = examples.guessed(model.sample_rows(1)[0], description)
        if guess is not None and (count := len(model.preprocess(guess))) > 0:
            return guess, count
    except BaseException as error:
        log.debug("A request made of samples is refused: %s", said_by(error))
    return None, 1


def _declared(model: Model, description: Description) -> Request | None:
    try:
        given = model.example()
        return None if given is None else examples.declared(given, description)
    except BaseException as error:
        log.warning("The model's example() is no request: %s", said_by(error))
        return None


def _answers(model: Model, request: Request, level: int) -> bool:
    """Say whether the model answers ``request``, and at that level why not."""
    try:
        model.postprocess(model.run(model.preprocess(request)), request)
    except BaseException as error:
        log.log(level, "A request is not shown as an example, since the model does not answer it: %s", said_by(error))
        return False
    return True
