"""A crowd that sends the console's endpoints whatever comes to its mind: nothing breaks, and inference goes on."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from producer_api.console.access import MARK
from tests.e2e.console_actions.desk import Desk
from tests.helpers import Crew, eventually
from tests.memory import resident_bytes

pytestmark = pytest.mark.timeout(60)

PATHS = ("session", "dead", "dead/requeue", "dead/drop", "jobs", "jobs/cancel", "lanes/pause", "state", "history", "..")
METHODS = (*["GET"] * 3, *["POST"] * 9, "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "")
ODD = ("", "<script>", "\x00", "'\"", "\u202e", "a" * 70, "%00%ff", "../..", "0", "-1", "1e999", "true", "null")
RAW = {"Content-Type": "application/octet-stream"}
CROWD, EACH = 6, 120
MOST_GROWTH_BYTES = 48 << 20


class Stranger:
    """One of the crowd; what it sends depends on its number alone."""

    def __init__(self, number: int, model: str) -> None:
        self._dice, self._model = random.Random(number), model

    def head_and_body(self) -> bytes:
        """Return a request, or something like one."""
        dice, body = self._dice, self._body()
        query = "&".join(f"{name}={self._word()}" for name in dice.sample(("model", "lane", "match", "after", "x"), 3))
        path = f"/console/{dice.choice(PATHS)}{dice.choice(('', '?' + query, '/' + self._word()))}"
        first = f"{dice.choice(METHODS)} {path} HTTP/1.{dice.choice('0111')}"
        lines = [first, f"Host: {dice.choice(('a', 'a', 'b.c'))}"]
        for name, values in (
            ("Content-Type", (*["application/json"] * 8, "text/plain", self._word())),
            (MARK, (*["1"] * 8, "0", "x" * 3000)),
            ("Origin", ("http://a", "null", "http://evil.example", self._word())),
            ("Authorization", ("Bearer x", "Basic eDp4", "Bearer " + "x" * 2000)),
            ("Content-Length", (*[str(len(body))] * 8, str(len(body) + 9), "-1", "9" * 30)),
            ("Transfer-Encoding", ("chunked", "gzip, chunked")),
        ):
            if dice.random() < (0.9 if name in (MARK, "Content-Type", "Content-Length") else 0.15):
                lines += [f"{name}: {dice.choice(values)}"] * dice.choice((1, 1, 1, 1, 1, 1, 2))
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace") + body

    def _word(self) -> str:
        return self._dice.choice((*ODD, self._model, "default", "1-1"))

    def _value(self, depth: int = 0) -> Any:
        dice = self._dice
        kind = dice.randrange(8 if depth < 3 else 5)
        if kind < 5:
            return (self._word(), dice.randrange(-(1 << 70), 1 << 70), dice.random(), None, dice.random() < 0.5)[kind]
        if kind == 5:
            return {self._word(): self._value(depth + 1) for _ in range(3)}
        return [self._value(depth + 1) for _ in range(dice.choice((0, 2, 300 if depth == 0 else 5)))]

    def _body(self) -> bytes:
        dice = self._dice
        kind = dice.randrange(6)
        if kind == 0:
            return dice.randbytes(dice.choice((0, 9, 5000)))
        if kind == 1:
            return dice.choice((b"[", b'{"a":')) * 30_000
        document = {"model": self._model, "lane": "default", "all": True, "ids": ["1-1"], "paused": False, "id": "b"}
        for name in dice.sample(sorted(document), 2):
            document.pop(name) if dice.random() < 0.5 else document.update({name: self._value()})
        text = json.dumps(document).encode()
        return text[: dice.randrange(len(text))] if kind == 2 else text


@pytest.fixture
def desk(valkey_url: str) -> Iterator[Desk]:
    with Desk(valkey_url) as started:
        yield started


def test_a_hostile_crowd_breaks_nothing_and_inference_goes_on(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.bury(200)
    desk.bury(200, model=desk.other)
    odd: list[bytes] = []
    seen: set[bytes] = set()

    def send(stranger: Stranger) -> None:
        with socket.create_connection(("127.0.0.1", desk.server.port), timeout=20) as connection:
            connection.settimeout(0.1)  # much of it is no whole request, and waits for the rest
            try:
                connection.sendall(stranger.head_and_body())
                answer = connection.recv(4096)
            except OSError:
                return
        seen.add(answer[9:12])
        if answer and not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.1 503")):
            odd.append(answer)

    def rage(number: int) -> None:
        for turn in range(EACH):
            send(Stranger(1000 * number + turn, desk.model))

    def infer() -> None:
        while not crew.over.is_set():
            answer = desk.ask("POST", f"/v1/models/{desk.model}/predict", RAW, b"hello")
            answers.append(answer.status)

    answers: list[int] = []
    rage(0)
    before_bytes = resident_bytes()
    threads = [threading.Thread(target=rage, args=(number,)) for number in range(1, CROWD + 1)]
    crew = Crew([infer])
    with crew:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert odd == []
    assert {b"200", b"400", b"403", b"405", b"422"} <= seen, seen  # much of it gets far
    assert set(answers) == {200}
    assert resident_bytes() - before_bytes < MOST_GROWTH_BYTES
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    eventually(lambda: not [one for one in desk.server.connections() if not one.transport.is_closing()])
    listed = desk.get(f"/console/dead?model={desk.other}").json
    assert listed["total"] == 200  # nobody has named that model
