"""`headrace top`: once, or on all of a terminal until somebody presses q [I/O]."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

import click

from headrace.asking.front_end import FrontEnd, FrontEndError
from headrace.exit_codes import EXIT_DONE

from .listening import MINUTES, Listening, past, snapshot
from .view import Shown, lines, names_of, painted

LOOK_UP_S: Final = 0.5
"""So often the size of the terminal is looked at."""

_NARROW: Final = 80


def run(front_end: FrontEnd, model: str | None, *, once: bool, as_json: bool) -> int:
    """Carry out the command and return its exit code.

    Args:
        model: which one to show in detail; None for the first.
        once: show it once and end, as where there is no terminal.
        as_json: print the console's document instead.
    """
    try:
        state = snapshot(front_end, model or "")
        chosen = model or next(iter(names_of(state)), "")
        if once or as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            if chosen and model is None:
                state = snapshot(front_end, chosen)
            return _print(front_end, state, chosen, as_json)
    except FrontEndError as error:
        found = error if model is None else front_end.with_nearest(error, model)
        click.echo(f"headrace: {found}", err=True)
        return found.exit_code
    return _Watching(front_end, chosen, state).run()


def _print(front_end: FrontEnd, state: Any, chosen: str, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(state, indent=1))
        return EXIT_DONE
    shown = Shown(front_end.where, state, past(front_end, chosen) if chosen else None, minutes=MINUTES)
    width = max(_NARROW, os.get_terminal_size().columns) if sys.stdout.isatty() else _NARROW
    for line in lines(shown, width, 0, is_utf8=_is_utf8(), has_keys=False):
        click.echo(painted(line, has_colours=_has_colours()))
    return EXIT_DONE


def _has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


class _Watching:
    """Shows one model after the other, as keys are pressed."""

    def __init__(self, front_end: FrontEnd, model: str, state: Any) -> None:
        self._front_end, self._model = front_end, model
        self._shown = Shown(front_end.where, state, minutes=MINUTES)
        self._final: FrontEndError | None = None
        self._listening: Listening | None = None

    def run(self) -> int:
        from .terminal import Terminal

        try:
            with Terminal() as terminal:
                self._terminal = terminal
                self._listen()
                while self._final is None:
                    width, height = terminal.size()
                    drawn = lines(self._shown, width, height, is_utf8=_is_utf8(), has_keys=True)
                    terminal.draw([painted(line, has_colours=_has_colours()) for line in drawn])
                    key = terminal.key(LOOK_UP_S)
                    if key in ("q", "Q", "\x03", "\x04"):
                        break
                    if key in ("up", "down"):
                        self._choose(1 if key == "down" else -1)
                self._stop()
        except KeyboardInterrupt:
            return EXIT_DONE
        if self._final is not None:
            click.echo(f"headrace: {self._final}", err=True)
            return self._final.exit_code
        return EXIT_DONE

    def _choose(self, step: int) -> None:
        names = names_of(self._shown.state)
        if len(names) > 1:
            at = names.index(self._model) if self._model in names else -step
            self._model = names[(at + step) % len(names)]
            self._shown.history = None
            self._listen()

    def _listen(self) -> None:
        self._stop()

        def take(state: Any, history: Any) -> None:
            if listening is self._listening:
                self._shown.state, self._shown.history, self._shown.trouble = state, history, ""
                self._terminal.wake()

        def trouble(error: FrontEndError, ends: bool) -> None:
            if listening is self._listening:
                self._shown.trouble = str(error)
                self._final = error if ends else None
                self._terminal.wake()

        listening = self._listening = Listening(self._front_end, self._model, take, trouble)
        listening.start()

    def _stop(self) -> None:
        if self._listening is not None:
            self._listening.stop()
        self._listening = None
