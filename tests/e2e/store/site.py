"""A stack with a result store, and a direct producer beside it."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from shared import keys
from shared.redis.client import connect
from shared.wire.fast import decode_reply
from shared.wire.messages import Reply, Request, encode_request
from tests.e2e.stack import Response, Stack, call, echo_models
from tests.e2e.store.client import Client
from tests.helpers import eventually

RAW = "application/octet-stream"


class Site:
    """Front end and consumer with one folder as their result store.

    Attributes:
        root: the folder.
    """

    def __init__(self, redis_url: str, model: str, folder: Path, key: str | None = None, **settings: str) -> None:
        self.model, self.root = model, folder / "results"
        self.root.mkdir(mode=0o700)
        models = echo_models(folder, model)
        self.stack = Stack(redis_url, models, **{"RESULTS": str(self.root), **settings})
        self.client = connect(redis_url)
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            self.front_end = self.stack.start_front_end()
            self.consumer = self.stack.start_consumer(model)
            if key is None:
                self.stack.wait(model)
            else:
                client = Client(self.stack.url, model, key)
                eventually(lambda: client.ask("GET", f"/v1/models/{model}").status == 200)
            on_failure.pop_all()

    def send(self, body: bytes = b"hello", keep_ms: int | None = 60_000, **members: Any) -> str:
        """Add a request as a direct producer does; returns its id."""
        request_id = f"r-{secrets.token_hex(8)}"
        request = Request(request_id, 60_000, RAW, body, keep_ms=keep_ms)
        message = encode_request(msgspec.structs.replace(request, **members))
        self.client.xadd(keys.work(self.model, "default"), {b"m": message})
        return request_id

    def reply(self, request_id: str) -> Reply:
        """Wait for what is stored in Redis for a request."""
        key = keys.reply(self.model, "default", request_id)

        def stored() -> Any:
            return self.client.lindex(key, 0)

        return decode_reply(eventually(stored))

    def get(self, request_id: str) -> Response:
        """Ask the front end for the result."""
        return call(f"{self.stack.url}/v1/models/{self.model}/requests/{request_id}")

    def objects(self, below: str = "results") -> list[Path]:
        """The files of the store."""
        return [path for path in (self.root / below).rglob("*") if path.is_file()]

    def close(self) -> None:
        """End the processes."""
        self.stack.__exit__()
        self.client.close()
