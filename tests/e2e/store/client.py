"""HTTP as a client of large bodies speaks it."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

REFERENCE = "application/vnd.headrace.reference+json"


class Answer(NamedTuple):
    """What came back: names of headers in lower case, ``body`` parsed."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def error(self) -> tuple[int, str]:
        """Status and code of an error."""
        return self.status, self.body["error"]["code"]

    @property
    def message(self) -> str:
        """The sentence of an error."""
        return str(self.body["error"]["message"])


class Client:
    """Asks a front end, with an API key or without."""

    def __init__(self, url: str, model: str, key: str | None = None) -> None:
        self.address = urlsplit(url).netloc
        self.model = model
        self.headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request on a connection of its own."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path, body, {**self.headers, **named})
            answer = connection.getresponse()
            data, kind = answer.read(), answer.headers.get("Content-Type", "")
            found: Any = data
            if "json" in kind:
                found = json.loads(data)
            elif "msgpack" in kind:
                found = msgspec.msgpack.decode(data)
            return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, found)
        finally:
            connection.close()

    def begin(self, size_bytes: int, **members: Any) -> Answer:
        """Begin an upload."""
        return self.ask("POST", "/v1/uploads", json.dumps({"bytes": size_bytes, **members}).encode())

    def part(self, upload_id: str, number: int | str, part: bytes) -> Answer:
        """Send a part."""
        return self.ask("PUT", f"/v1/uploads/{upload_id}/parts/{number}", part)

    def complete(self, upload_id: str) -> Answer:
        """Have an upload checked."""
        return self.ask("POST", f"/v1/uploads/{upload_id}/complete")

    def upload(self, body: bytes, **members: Any) -> str:
        """Do a whole upload; returns its id."""
        members.setdefault("sha256", hashlib.sha256(body).hexdigest())
        begun = self.begin(len(body), **members)
        assert begun.status == 201, begun.body
        step = begun.body["part_bytes"]
        for number in range(begun.body["parts"], 0, -1):  # in any order
            sent = self.part(begun.body["id"], number, body[(number - 1) * step : number * step])
            assert sent.status == 204, sent.body
        done = self.complete(begun.body["id"])
        assert (done.status, done.body["status"]) == (200, "complete")
        return str(begun.body["id"])

    def predict(self, query: str = "", content_type: str = "application/octet-stream", **reference: Any) -> Answer:
        """Have the model asked with a body by reference."""
        document = json.dumps({"reference": {"content_type": content_type, **reference}}).encode()
        return self.document(document, query)

    def document(self, document: bytes, query: str = "") -> Answer:
        """The same with any document."""
        path = f"/v1/models/{self.model}/predict{query}"
        return self.ask("POST", path, document, Content_Type=REFERENCE, Accept="application/msgpack")


def echoed(answer: Answer) -> bytes:
    """The bytes that came back from a model that echoes."""
    assert answer.status == 200, answer.body
    return bytes(answer.body["outputs"][0]["data"])
