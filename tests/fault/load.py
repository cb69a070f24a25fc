"""Clients that do as they are told: they ask, and ask again with the same id until there is an answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tests.e2e.stack import Response
from tests.fault.site import body_of
from tests.helpers import Crew

PAUSE_S = 0.02
GIVE_UP_S = 45.0


@dataclass(frozen=True, slots=True)
class Try:
    """One try of one request.

    Attributes:
        begun_s, took_s: on the monotonic clock.
    """

    status: int
    begun_s: float
    took_s: float


class Answering(Protocol):
    """What answers requests, such as a :class:`~tests.fault.site.Site`."""

    def ask(self, body: bytes, request_id: str, timeout_ms: int) -> Response:
        """Send a request and wait for its answer."""


class Load(Crew):
    """Some clients, one request each at a time, until told to stop; a context manager that ends with all answered.

    Each body is the request's own id, and the model gives it back: an answer that belongs to another request is seen.

    Attributes:
        asked: the ids of all requests.
        answered: how many of them have had their answer.
        tries: every try.
        wrong: what was answered wrongly, or not at all.
    """

    def __init__(self, site: Answering, clients: int = 4, timeout_ms: int = 3000) -> None:
        self._site, self._timeout_ms = site, timeout_ms
        super().__init__(partial(self._ask_on, number) for number in range(clients))
        self.asked: list[str] = []
        self.answered = 0
        self.tries: list[Try] = []
        self.wrong: list[str] = []

    def statuses(self, since_s: float = 0.0) -> Counter[int]:
        """How often each status was answered to tries begun since."""
        return Counter(one.status for one in self.tries if one.begun_s >= since_s)

    def _ask_on(self, client: int) -> None:
        number = 0
        while not self.over.wait(PAUSE_S):  # what is to happen under this load needs the cores, too
            number += 1
            self._ask(f"c{client}-{number}")

    def _ask(self, request_id: str) -> None:
        self.asked.append(request_id)
        give_up_s = time.monotonic() + GIVE_UP_S
        pause = threading.Event()
        while time.monotonic() < give_up_s:
            begun_s = time.monotonic()
            answer = self._site.ask(request_id.encode(), request_id, self._timeout_ms)
            self.tries.append(Try(answer.status, begun_s, time.monotonic() - begun_s))
            if answer.status == 200:
                self.answered += 1
                if body_of(answer) != request_id.encode():
                    self.wrong.append(f"{request_id}: {body_of(answer)!r}")
                return
            if answer.status not in (429, 503, 504):
                self.wrong.append(f"{request_id}: {answer.body}")
                return
            pause.wait(PAUSE_S)
        self.wrong.append(f"{request_id}: no answer")
