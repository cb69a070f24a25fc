"""A front end whose console acts on a real Redis, and letters to act on."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from producer_api.console.access import MARK
from shared import keys
from shared.redis import functions, library
from shared.redis.client import connect
from shared.settings import Settings
from shared.wire.messages import Request, encode_request
from tests.e2e.http_server import HttpServer
from tests.fakes import ECHO, InMemoryQueue, echo

ACTION = {"Content-Type": "application/json", MARK: "1"}
TTL_MS = 600_000


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The document."""
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """What the error body says."""
        return self.json["error"]

    @property
    def lines(self) -> list[Any]:
        """The documents of a stream of lines."""
        assert self.status == 200, self.body
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def end(self) -> Any:
        """The last of them."""
        end = self.lines[-1]
        assert end["ended"] is True
        return end


class Desk:
    """Runs from ``with`` to its end. Its models have names that nobody else uses, each with the lanes default and gold.

    Args:
        address: of Redis, as the front end uses it.
        settings: of the front end.
        administrator: the address for what the test does itself.
    """

    def __init__(self, address: str, administrator: str = "", **settings: Any) -> None:
        self.model, self.other = (f"desk-{secrets.token_hex(8)}" for _ in range(2))
        queue = InMemoryQueue()
        for model in (self.model, self.other):
            queue.serve(model, ECHO, echo)
            queue.create_lane(model, "gold")
        self.redis: Any = connect(administrator or address)
        self.server = HttpServer(Settings(redis_url=address, **settings), queue=queue)

    def __enter__(self) -> Self:
        library.load(self.redis)
        self.server.__enter__()
        for model in (self.model, self.other):
            for lane in ("default", "gold"):
                self.redis.execute_command(
                    *functions.heartbeat(keys.work(model, lane), "w1", 3_600_000, 2048, {"pid": "1"}, {})
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)
        for model in (self.model, self.other):
            names = list(self.redis.scan_iter(f"hr:{{{model}}}:*", count=1000))
            if names:
                self.redis.unlink(*names)
            self.redis.zrem(keys.MODELS, model)
        self.redis.close()

    def bury(self, count: int, *, lane: str = "default", begin: int = 0, model: str = "", **fields: Any) -> list[str]:
        """Add letters; returns their ids."""
        with self.redis.pipeline(transaction=False) as step:
            for number in range(begin, begin + count):
                step.xadd(keys.dead_letters(model or self.model, lane), letter(f"r{number}", **fields))
            return [entry.decode() for entry in step.execute()]

    def letters(self, lane: str = "default") -> list[str]:
        """The ids of the letters that are there."""
        return [entry.decode() for entry, _ in self.redis.xrange(keys.dead_letters(self.model, lane))]

    def depth(self, lane: str = "default") -> int:
        """Requests in a lane."""
        return int(self.redis.xlen(keys.work(self.model, lane)))

    def stopped(self, action: str) -> float:
        """How many actions of a kind did not do everything."""
        return self.server.metric("headrace_console_actions_total", action=action, result="stopped")

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Look."""
        return self.ask("GET", path, headers or {})

    def dead(self, query: str = "", lane: str = "default") -> Any:
        """List letters."""
        answer = self.get(f"/console/dead?model={self.model}&lane={lane}{query}")
        assert answer.status == 200, answer.body
        return answer.json

    def post(self, path: str, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
        """Act."""
        return self.ask("POST", path, ACTION if headers is None else headers, json.dumps(document).encode())

    def requeue(self, **members: Any) -> Answer:
        """Put letters back."""
        return self.post("/console/dead/requeue", {"model": self.model, "lane": "default", **members})

    def drop(self, **members: Any) -> Answer:
        """Drop letters."""
        return self.post("/console/dead/drop", {"model": self.model, "lane": "default", **members})

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Ask on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=40)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


def letter(
    request_id: str, *, reason: str = "crashed", crashes: Any = 2, content_type: str = "image/jpeg", body: bytes = b"x"
) -> dict[str, Any]:
    """Make the fields of a letter, as consumers write them."""
    message = encode_request(Request(request_id, TTL_MS, content_type, body))
    return {"reason": reason, "crashes": crashes, "id": request_id, "entry": "1-1", "sum": len(message), "m": message}


def ids_in(work: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> list[bytes]:
    """The messages of entries."""
    return [fields[b"m"] for _, fields in work]
