"""Where a model's code comes back into ours: forks of this process must not, and what it closed is opened again [I/O].

A fork is a copy of this consumer with one thread. Once back in our code it would read requests over the very sockets
of its parent, and answer them, too.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, ParamSpec, TypeVar

from shared.process import logs, standard_streams

P = ParamSpec("P")
T = TypeVar("T")

_is_fork = False


def watch_forks() -> None:
    """Know from here on which process is a fork of this one."""
    os.register_at_fork(after_in_child=_begin_fork)


def _begin_fork() -> None:
    global _is_fork
    _is_fork = True


def never_in_a_fork(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate what calls a model's code: in a process that this code forked, nothing comes back from it."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        finally:
            if _is_fork:
                _end_fork(sys.exc_info()[1])

    return call


def put_back() -> None:
    """Open again what a model's code has closed of this process's own: standard streams, and its log."""
    standard_streams.put_back()
    logs.put_back()


def _end_fork(error: BaseException | None) -> NoReturn:
    """End as a script does. Nothing that the parent registered with ``atexit`` runs."""
    status = 1
    with suppress(BaseException):
        if isinstance(error, SystemExit):
            status = _status(error.code)
        elif error is not None:
            traceback.print_exception(error)
        else:
            print("A process that the model has forked came back from the model's code; it ends.", file=sys.stderr)
    os._exit(status)


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1
