"""Turns an exception of a model's code into the error of the one request that caused it.

Anything can come out of a model's code: exceptions whose ``repr`` raises, ``sys.exit()``, panics of Rust and
cancellations, which all derive from ``BaseException``. None of it may end a stage.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Protocol

from shared.wire.messages import MAX_TEXT, Request
from shared.wire.outcomes import BY_CODE, MODEL_ERROR, Outcome, RequestError

log = logging.getLogger(__name__)


class Asked(Protocol):
    """A request whose answer a model's code decides; an item of the pipeline is one."""

    @property
    def request(self) -> Request:
        """What was asked."""

    def about(self) -> Mapping[str, str]:
        """What a log line says of it beside its text."""


FAILED = "The model failed on this input; the consumer's log says why."


def described(error: BaseException) -> str:
    """Return what ``repr`` says of an error, or its type alone where that fails too."""
    try:
        return repr(error)[:MAX_TEXT]
    except BaseException:  # the repr of a foreign error is foreign code
        return type(error).__name__


def answer_to(error: BaseException, item: Asked, doing: str) -> RequestError:
    """Return the error that a request ends with, and log what is the model's fault.

    Args:
        error: what the model's code raised. A ``RequestError`` that can be sent is the model's own answer.
        item: the request it was raised for.
        doing: what failed, for the log, such as "Preprocessing".
    """
    own = _own_answer(error)
    if own is not None:
        if own.outcome is MODEL_ERROR:
            log.error("Request %s: %s", item.request.id, own.message, extra=item.about())
        return own
    what, request_id = described(error), item.request.id
    try:
        log.error("%s failed for request %s: %s", doing, request_id, what, exc_info=error, extra=item.about())
    except BaseException:  # so is what a traceback is made of
        log.error("%s failed for request %s: %s", doing, request_id, what, extra=item.about())
    return RequestError(MODEL_ERROR, FAILED)


def _own_answer(error: BaseException) -> RequestError | None:
    """Return a ``RequestError`` that can be sent; None when ``error`` is none, or holds what cannot be sent."""
    if not isinstance(error, RequestError):
        return None
    try:
        outcome = error.outcome
        if not isinstance(outcome, Outcome) or BY_CODE.get(outcome.code) is not outcome or outcome.status < 400:
            return None
        field = None if error.field is None else _text(error.field)
        return RequestError(outcome, _text(error.message), field=field)
    except BaseException:  # an attribute may be anything
        return None


def _text(value: object) -> str:
    """Return a text that every encoder takes."""
    if not isinstance(value, str):
        value = described(value) if isinstance(value, BaseException) else f"a {type(value).__name__}"
    return value[:MAX_TEXT].encode("utf-8", "replace").decode()
