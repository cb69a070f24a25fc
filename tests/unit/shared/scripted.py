"""A server that speaks Redis's protocol and answers as it is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Self

import hiredis

Answer = bytes | Callable[[socket.socket], None]
"""What to send, or what to do with the connection."""

HANG_UP = socket.socket.close


class ScriptedServer:
    """Gives the answers of a script, one per command, whatever the command; greetings are answered with OK.

    Attributes:
        commands: what came, greetings aside.
        connections: how many were accepted.
    """

    def __init__(self, *script: Answer) -> None:
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self._script = list(script)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        try:
            while data := connection.recv(65536):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    self._answer(connection, command)
        except OSError:
            return

    def _answer(self, connection: socket.socket, command: list[bytes]) -> None:
        if command[0] in (b"CLIENT", b"HELLO", b"AUTH", b"SELECT"):
            connection.sendall(b"+OK\r\n")
            return
        self.commands.append(command)
        answer = self._script.pop(0)
        if isinstance(answer, bytes):
            connection.sendall(answer)
        else:
            answer(connection)
