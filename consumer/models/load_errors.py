"""Errors while a model loads, reported as the model's and not as Headrace's: a model is the user's code."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from shared.wire.outcomes import RequestError

LONGEST_TEXT = 2000
_OURS = Path(__file__).parents[1]
_NO_SIGNALS = (
    "Python lets only the main thread install signal handlers, and a model is loaded on a thread of its own. Leave "
    "signals to Headrace, and end in close() what you have started."
)


class EntryFailed(ValueError):
    """The code of a model's module or factory raised; what it raised is the cause."""


class ModelCannotLoad(ValueError):
    """A model cannot be built, loaded, run or rehearsed. Nothing is known to be wrong with Headrace's configuration.

    Attributes:
        why: one sentence for the operator.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"Model {name} cannot be loaded: {why}")
        self.why = why

    def tell(self, log: logging.Logger, sentence: str = "") -> None:
        """Log ``sentence``, or this error's own, after the traceback where the model's code raised.

        The sentence comes last: a supervisor repeats what a process said last. Afterwards the error does not hold on
        to the model any more.
        """
        traces = [error.__traceback__ for error in self._chain()]
        raised = self._raised_by_the_model()
        try:
            if raised is not None:
                log.error("The model's code raised:", exc_info=_from_its_own_code(raised))
        except BaseException:  # what a traceback shows of a foreign error is foreign code
            log.error("The model's code raised %s.", type(raised).__name__)
        log.error("%s", sentence or self)
        for trace in traces:
            traceback.clear_frames(trace)

    def _chain(self) -> Iterator[BaseException]:
        error: BaseException | None = self
        while error is not None:
            yield error
            error = error.__cause__ or error.__context__

    def _raised_by_the_model(self) -> BaseException | None:
        cause = self.__cause__
        while isinstance(cause, ModelCannotLoad):
            cause = cause.__cause__
        if isinstance(cause, EntryFailed):
            return cause.__cause__
        return None if cause is None or _is_a_refusal_of_ours(cause) else cause


@contextmanager
def told_as_the_models(name: str) -> Iterator[None]:
    """Turn whatever is raised inside, ``SystemExit`` and other ``BaseException`` included, into ``ModelCannotLoad``.

    Args:
        name: the model's.
    """
    try:
        yield
    except ModelCannotLoad:
        raise
    except BaseException as error:
        raise ModelCannotLoad(name, said_by(error)) from error


def said_by(error: BaseException) -> str:
    """Return what an exception says, as a sentence that can be printed and sent."""
    text = _text_of(error)
    if isinstance(error, SystemExit):
        return f"it called sys.exit({text})."
    if "signal only works in main thread" in text:
        return f"{text}. {_NO_SIGNALS}"
    if isinstance(error, ValueError | RequestError) and text:
        return f"{text}."
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


def _text_of(error: BaseException) -> str:
    try:
        text = repr(error.code) if isinstance(error, SystemExit) else str(error)
    except BaseException:  # the text of a foreign error is foreign code
        return ""
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}..."
    return text.encode("utf-8", "backslashreplace").decode().strip().rstrip(".")


def _is_a_refusal_of_ours(error: BaseException) -> bool:
    """Say whether the consumer itself raised it to refuse something: its sentence says all there is."""
    frames = _frames(error)
    return isinstance(error, ValueError | RequestError) and (not frames or _is_ours(frames[-1]))


def _from_its_own_code(error: BaseException) -> BaseException:
    """Leave out the frames before the model's own, which say nothing about it."""
    return error.with_traceback(next((one for one in _frames(error) if not _is_ours(one)), error.__traceback__))


def _frames(error: BaseException) -> list[TracebackType]:
    found, frame = [], error.__traceback__
    while frame is not None:
        found.append(frame)
        frame = frame.tb_next
    return found


def _is_ours(frame: TracebackType) -> bool:
    return Path(frame.tb_frame.f_code.co_filename).is_relative_to(_OURS)
