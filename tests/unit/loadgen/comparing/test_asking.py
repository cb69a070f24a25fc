"""Two services are asked the same inputs over real connections, alone and together, and their answers compared."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadgen.comparing.asking import MOST_INPUTS, TOGETHER, AskedService, compare_answers
from loadgen.results.comparefile import Answer
from loadgen.scenario import Payload, parse_target

Answering = Callable[[int, bytes], "int | float"]
"""From the number of a request, counted from 0, and its body: a status (whole), or the number to answer with."""


def honest(number: int, body: bytes) -> float:
    return float(body[0])


@contextmanager
def service(answering: Answering) -> Iterator[AskedService]:
    """Serve inferences as told."""
    numbers = itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found = answering(next(numbers), body)
            is_error = isinstance(found, int)
            output = {"name": "y", "datatype": "FP32", "shape": [1, 1], "data": [found]}
            answer = {"error": {"code": "bad", "message": "no."}} if is_error else {"outputs": [output]}
            data = json.dumps(answer).encode()
            self.send_response(int(found) if is_error else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield AskedService(parse_target(f"http://127.0.0.1:{server.server_address[1]}"), "m", 10.0)
        finally:
            server.shutdown()
            thread.join()


def payloads(*bodies: bytes) -> list[Payload]:
    return [Payload(f"{body.decode()}.bin", "application/octet-stream", body) for body in bodies]


def asked(base: Answering, candidate: Answering, *bodies: bytes) -> tuple[list[Answer], tuple[int, int]]:
    with service(base) as one, service(candidate) as other:
        found = compare_answers(one, other, payloads(*bodies))
        return found, (one.answered, other.answered)


def test_the_same_answers_have_no_distance() -> None:
    found, answered = asked(honest, honest, b"a", b"b", b"a")
    assert [answer.payload for answer in found] == ["a.bin", "b.bin"]
    assert [(answer.difference, answer.own_difference, answer.what) for answer in found] == [(0.0, 0.0, "")] * 2
    assert answered == (2 + TOGETHER, 2 + TOGETHER)


def test_not_all_of_many_inputs_are_asked() -> None:
    found, _ = asked(honest, honest, *(bytes([letter]) for letter in range(ord("a"), ord("z"))))
    assert len(found) == MOST_INPUTS


def test_another_answer_is_found_alone() -> None:
    found, _ = asked(honest, lambda number, body: body[0] * 1.5, b"d")
    assert found[0].difference == pytest.approx(0.5)
    assert found[0].what == "output 'y'[0], 150.0 instead of 100.0, asked alone"


def test_rows_that_are_mixed_up_in_a_batch_are_found_among_others() -> None:
    """The first two are asked alone and answered right; of those that come together each gets the answer to `a`."""
    found, _ = asked(honest, lambda number, body: float(body[0] if number < 2 else ord("a")), b"a", b"b")
    assert found[0].difference == 0
    assert found[1].difference == pytest.approx(1 / 98)
    assert found[1].what.endswith(", asked among others")


def test_a_candidate_that_fails_once_has_failed() -> None:
    found, answered = asked(honest, lambda number, body: 500 if number == 5 else float(body[0]), b"a")
    assert found[0].candidate_failure == "status 500: bad: no."
    assert (found[0].base_failure, found[0].difference) == (None, None)
    assert answered == (1 + TOGETHER, 1 + TOGETHER)


def test_a_base_that_fails_is_told_apart() -> None:
    found, _ = asked(lambda number, body: 422, honest, b"a")
    assert found[0].base_failure == "status 422: bad: no."
    assert (found[0].candidate_failure, found[0].own_difference) == (None, None)


def test_a_base_that_answers_at_random_is_known_by_its_own_answers() -> None:
    found, _ = asked(lambda number, body: 100.0 + number, honest, b"d")
    assert found[0].own_difference == pytest.approx(TOGETHER / 100)


def test_a_service_that_went_away_gave_no_answer() -> None:
    with service(honest) as base, service(honest) as gone:
        pass
    with service(honest) as base:
        found = compare_answers(base, gone, payloads(b"a"))
    assert found[0].candidate_failure is not None
    assert found[0].candidate_failure.startswith("Cannot reach http://127.0.0.1:")
    assert gone.answered == 0
