"""The one error a user of the load generator meets: a sentence, and the exit code that goes with it."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_OVER_BUDGET = 10
EXIT_REGRESSION = 11
EXIT_WRONG_ANSWERS = 12
EXIT_INVALID = 20
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class LoadgenError(Exception):
    """Something the user can act on. The text is one sentence; `exit_code` is what the process ends with."""

    def __init__(self, sentence: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class Terminated(KeyboardInterrupt):
    """SIGTERM came. It is raised as Ctrl-C is, so that whatever was started or made is ended and removed."""


def stop_code(stop: BaseException) -> int:
    """Return what the process ends with when this has ended its work: Ctrl-C, SIGTERM, or an error with a sentence."""
    if isinstance(stop, LoadgenError):
        return stop.exit_code
    return EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
