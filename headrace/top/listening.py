"""Reading the console's event stream on a thread [I/O], again and again until somebody has seen enough."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlencode

from headrace.asking.front_end import FrontEnd, FrontEndError
from headrace.exit_codes import EXIT_REFUSED, EXIT_USAGE

AGAIN_S: Final = 2.0
SILENCE_S: Final = 12.0
"""The front end says something every five seconds; what is silent for longer is gone."""

MINUTES: Final = 10
MOST_LINE: Final = 32 << 20
HISTORY_EVERY: Final = 5
"""States between two looks at the past, which has a new point every ten seconds."""


class Listening:
    """One model's stream. Its thread ends with it.

    Args:
        front_end: silent for longer than ``SILENCE_S`` it counts as gone.
        model: which one is shown in detail; empty for none.
        take: called on the thread with each state and the history, None where there is none.
        trouble: called on the thread with why nothing comes; ``ends`` says that trying again does not help.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        model: str,
        take: Callable[[Any, Any], None],
        trouble: Callable[[FrontEndError, bool], None],
    ) -> None:
        self._front_end, self._model, self._take, self._trouble = front_end, model, take, trouble
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="top", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; nothing is called any more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._listen()
                error = FrontEndError("The front end has ended the stream; asking again.", EXIT_REFUSED)
            except FrontEndError as found:
                error = found
            except (OSError, ValueError, http.client.HTTPException) as found:
                error = FrontEndError(f"The front end is away: {found or type(found).__name__}.", EXIT_REFUSED)
            if not self._over.is_set():
                self._trouble(error, error.exit_code == EXIT_USAGE or error.code in ("unauthorized", "forbidden"))
            self._over.wait(AGAIN_S)

    def _listen(self) -> None:
        history, seen = None, 0
        with self._front_end.ask("GET", f"/console/events?{urlencode({'model': self._model})}") as answer:
            while not self._over.is_set():
                line = answer.readline(MOST_LINE)
                if not line:
                    return
                if line.startswith(b"data: "):
                    if self._model and seen % HISTORY_EVERY == 0:
                        history = past(self._front_end, self._model)
                    seen += 1
                    state = json.loads(line[6:])
                    if not self._over.is_set():
                        self._take(state, history)


def snapshot(front_end: FrontEnd, model: str) -> Any:
    """Return the state now.

    Raises:
        FrontEndError: it refuses, or nobody answers.
    """
    return front_end.json("GET", f"/console/state?{urlencode({'model': model})}")


def past(front_end: FrontEnd, model: str) -> Any:
    """Return the columns of the last minutes; None where there are none."""
    query = urlencode({"model": model, "minutes": MINUTES, "points": 60})
    try:
        return front_end.json("GET", f"/console/history?{query}")
    except FrontEndError:
        return None
