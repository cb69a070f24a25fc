"""Reading the console's event stream with a socket of one's own, as slowly or as quickly as a test wants."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode


def get(url: str, **query: str) -> Any:
    """Return a JSON document."""
    with urllib.request.urlopen(f"{url}?{urlencode(query)}" if query else url, timeout=20) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return json.loads(answer.read())


class Events:
    """The states of one stream, one by one."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.comments = 0

    def next(self) -> Any:
        """Wait for the next state."""
        for line in self._answer:
            if line.startswith(b"data: "):
                return json.loads(line[6:])
            if line.startswith(b": "):
                self.comments += 1
        raise EOFError

    def end(self) -> None:
        """Wait for the end of the stream."""
        while self._answer.readline():
            pass

    def until(self, holds: Any) -> Any:
        """Wait for a state for which something holds."""
        while True:
            state = self.next()
            if holds(state):
                return state


@contextmanager
def events(url: str, **query: str) -> Iterator[Events]:
    """Listen to a front end."""
    with urllib.request.urlopen(f"{url}/console/events?{urlencode(query)}", timeout=30) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        yield Events(answer)
