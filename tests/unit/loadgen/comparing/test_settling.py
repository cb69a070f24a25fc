"""Waiting for a stack to find its fastest runtime, over real connections to a service with changing cards."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from loadgen.comparing.settling import settle
from loadgen.scenario import Target, parse_target

SEARCHING = {"tuning": {"state": "searching", "reason": "a."}}
TUNED = {"tuning": {"state": "tuned", "reason": "b."}}
UNAVAILABLE: dict[str, Any] = {}


@contextmanager
def service(cards: Sequence[dict[str, Any]], asked: list[int]) -> Iterator[Target]:
    """Show the cards one after the other, and the last one for ever; ``UNAVAILABLE`` is a status 503."""
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = next(numbers)
            asked.append(number)
            card = cards[min(number, len(cards) - 1)]
            data = json.dumps(card or {"error": {"code": "loading", "message": "It loads."}}).encode()
            self.send_response(200 if card else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield parse_target(f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("cards", "questions"),
    [
        ([SEARCHING, SEARCHING, TUNED], 8),
        ([SEARCHING, TUNED, SEARCHING, TUNED], 9),  # of two consumers one has switched
        ([TUNED, UNAVAILABLE, TUNED], 8),
        ([{"name": "m"}], 1),
        ([{"tuning": None}], 1),
        ([SEARCHING, {"tuning": "what?"}], 2),
    ],
)
def test_it_waits_until_no_consumer_searches(cards: list[dict[str, Any]], questions: int) -> None:
    asked: list[int] = []
    with service(cards, asked) as target:
        assert settle(target, "m", 30.0, look_s=0.001)
    assert len(asked) == questions


def test_a_search_without_an_end_is_not_waited_for_for_ever() -> None:
    with service([SEARCHING], []) as target:
        assert not settle(target, "m", 0.05, look_s=0.001)
