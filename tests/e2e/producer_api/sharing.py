"""Several front ends on one port: which process has which connection, and clients that go on asking."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.e2e.http_server import Connection
from tests.helpers import Crew

ASK = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"


def owner(connection: Connection, pids: Iterable[int]) -> int:
    """Return which of these processes has accepted a connection; it must have answered on it."""
    here, there = connection.ports()
    link = f"socket:[{_inode(there, here)}]"
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) == link:
                    return pid
    raise AssertionError(f"nobody has the connection from port {here}")


def _inode(port: int, peer: int) -> str:
    ends = [f"0100007F:{port:04X}", f"0100007F:{peer:04X}"]
    for line in Path("/proc/net/tcp").read_text().splitlines():
        fields = line.split()
        if fields[1:3] == ends:
            return fields[9]
    raise AssertionError(f"there is no connection of {ends}")


def to_each(port: int, pids: Iterable[int], count: int = 1) -> dict[int, list[Connection]]:
    """Open connections until each of these processes has ``count``; more are closed."""
    found: dict[int, list[Connection]] = {pid: [] for pid in pids}
    while any(len(some) < count for some in found.values()):
        connection = Connection(port)
        connection.send(ASK)
        assert connection.response()[0] == 200
        pid = owner(connection, found)
        if len(found[pid]) < count:
            found[pid].append(connection)
        else:
            connection.__exit__()
    return found


@dataclass(slots=True)
class Client:
    """Asks again and again, each time on a new connection, or always on the one that it was given.

    Attributes:
        answered: how often the right answer came.
        failed: what came instead.
    """

    model: str
    port: int
    kept: Connection | None = None
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    def ask(self, body: bytes) -> None:
        """Ask once."""
        try:
            if self.kept is not None:
                wrong = self._exchange(self.kept, body)
            else:
                with Connection(self.port) as connection:
                    wrong = self._exchange(connection, body)
        except OSError as error:
            wrong = type(error).__name__
        except AssertionError:
            wrong = "ended"  # without an answer
        if wrong:
            self.failed.append(wrong)
        else:
            self.answered += 1

    def _exchange(self, connection: Connection, body: bytes) -> str:
        connection.post(self.model, body)
        status, _, answer = connection.response()
        if status != 200:
            return str(status)
        return "" if bytes(answer["outputs"][0]["data"]) == body else "another's answer"


class Crowd(Crew):
    """Clients that ask side by side, each on a thread; a context manager that ends when all have their last answer."""

    def __init__(self, clients: Iterable[Client]) -> None:
        self.clients = list(clients)
        super().__init__(partial(self._go, client) for client in self.clients)

    def _go(self, client: Client) -> None:
        number = 0
        while not self.over.wait(0.01) and not (client.failed and client.kept is not None):
            number += 1
            client.ask(b"%d" % number)

    @property
    def answered(self) -> int:
        """How many right answers came to all of them together."""
        return sum(client.answered for client in self.clients)

    @property
    def failed(self) -> list[str]:
        """What else came to any of them."""
        return [what for client in self.clients for what in client.failed]
