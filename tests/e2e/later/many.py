"""Many later requests and many that listen, for tests: sent and heard on a few kept connections."""

from __future__ import annotations

import asyncio
import json
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.later.client import RAW


class Sender:
    """Sends on one kept connection, and says what became of each."""

    def __init__(self, url: str) -> None:
        self._netloc = urlsplit(url).netloc
        self._connection = HTTPConnection(self._netloc, timeout=30)

    def ask(self, model: str, request_id: str, body: bytes) -> int:
        """Ask a model to answer later; the status, 0 if the connection was lost."""
        headers = {"Prefer": "respond-async", "Content-Type": RAW}
        return self._send("POST", f"/v1/models/{model}/predict?id={request_id}&timeout_ms=3600000", body, headers)[0]

    def result(self, model: str, request_id: str) -> list[Any] | None:
        """What an echo has answered; None if it has not ended."""
        status, body = self._send("GET", f"/v1/models/{model}/requests/{request_id}?wait=20", None, {})
        found: list[Any] = json.loads(body)["outputs"][0]["data"] if status == 200 else []
        return found if status == 200 else None

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException):
            self.close()
            return 0, b""

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


def resident_bytes(pid: int) -> int:
    """Memory that a process has in use."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


class Ear:
    """A client that listens to one request."""

    def __init__(self, url: str, model: str, request_id: str) -> None:
        self._url, self._path = urlsplit(url), f"/v1/models/{model}/requests/{request_id}/events"
        self.heard: list[str] = []

    async def listen(self) -> None:
        """Listen to the end."""
        reader, writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        writer.write(f"GET {self._path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        try:
            async for line in reader:
                if line.startswith(b"event: "):
                    self.heard.append(line[7:].decode().strip())
        finally:
            writer.close()
