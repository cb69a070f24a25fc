"""A stack with a result store, and a client of its batches."""

from __future__ import annotations

import http.client
import io
import json
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from producer_api.bulk.parts import decode
from shared.redis.embedded import ServerConfig, free_port
from tests.e2e.stack import Process, Stack
from tests.embedded import EmbeddedServer
from tests.helpers import eventually

JPEG = b"\xff\xd8\xff\xe0 a photograph"
MODELS = (
    '[models.echo]\nfamily = "echo"\n\n[models.imagenet]\nfamily = "python"\nentry = "tests.e2e.bulk.gallery:create"\n'
)
JSON_LINES = "application/jsonl"


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.body = status, body
        self.headers = {name.lower(): value for name, value in headers.items()}

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the error."""
        return str(self.json["error"]["code"])

    @property
    def lines(self) -> list[Any]:
        """The body as JSON Lines."""
        return [json.loads(line) for line in self.body.splitlines()]


class Site:
    """Redis, consumers of ``echo`` and ``imagenet``, front ends as asked for, and a folder for results."""

    def __init__(self, folder: Path, appendonly: str = "no", **settings: str) -> None:
        self.folder, self.results = folder, folder / "results"
        models = folder / "models.toml"
        models.write_text(MODELS)
        self.server = EmbeddedServer(ServerConfig(folder / "redis", free_port(), appendonly, 256))
        self.stack = Stack(self.server.url, models, RESULTS=str(self.results), LEASE_MS="1000", **settings)
        self.key = ""
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        self._exits.enter_context(self.server)
        self._exits.enter_context(self.stack)
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def start(self, *models: str, **settings: str) -> Process:
        """Start consumers and a front end; returns the latter."""
        for model in models:
            self.stack.start_consumer(model)
        front_end = self.stack.start_front_end(**settings)
        for model in models:
            eventually(lambda model=model: self.ask("GET", f"/v1/models/{model}").status == 200)  # type: ignore[misc]
        return front_end

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Ask the latest front end."""
        address = urlsplit(self.stack.url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key:
            given["Authorization"] = f"Bearer {self.key}"
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def send(self, model: str, body: bytes, content_type: str = JSON_LINES, query: str = "", **headers: str) -> Answer:
        """Upload a batch."""
        return self.ask("POST", f"/v1/models/{model}/batches{query}", body, Content_Type=content_type, **headers)

    def begin(self, model: str, body: bytes, content_type: str = JSON_LINES, query: str = "", **headers: str) -> str:
        """Upload a batch that is taken; returns its path."""
        answer = self.send(model, body, content_type, query, **headers)
        assert answer.status == 201, answer.body
        assert answer.headers["location"].endswith(answer.json["id"])
        return answer.headers["location"]

    def state(self, path: str) -> Any:
        """How a batch stands."""
        return self.ask("GET", path).json

    def ended(self, path: str, state: str = "completed", limit_s: float = 40.0) -> Any:
        """Wait until a batch has ended so."""
        return eventually(lambda: found if (found := self.state(path))["state"] == state else None, limit_s)

    def lines(self, path: str, query: str = "") -> list[Any]:
        """Results."""
        answer = self.ask("GET", f"{path}/results{query}")
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == JSON_LINES
        return answer.lines

    def objects(self) -> list[Path]:
        """What batches have in the store."""
        return [path for path in self.results.glob("batches/**/*") if path.is_file()]

    def stored(self, path: str) -> list[int]:
        """The numbers of all items that have a result in the store, as they lie there."""
        parts = sorted(self.results.glob(f"batches/*/*/{path.rpartition('/')[2]}/out/*"))
        return [record.number for part in parts for record in decode(part.read_bytes())]


def line(data: bytes, name: str | None = None) -> bytes:
    """One item for ``echo``."""
    body = {"inputs": [{"name": "input", "shape": [1, len(data)], "datatype": "UINT8", "data": list(data)}]}
    return json.dumps(body if name is None else {"id": name, "body": body}).encode() + b"\n"


def numbered(count: int) -> bytes:
    """Items for ``echo`` that say their own number."""
    return b"".join(line(number.to_bytes(4, "big")) for number in range(count))


def number_of(result: Any) -> int:
    """The number that an item of :func:`numbered` was answered with."""
    return int.from_bytes(bytes(result["response"]["outputs"][0]["data"]), "big")


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return target.getvalue()
