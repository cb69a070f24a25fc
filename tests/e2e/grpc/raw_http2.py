"""Frames of HTTP/2 by hand, for what no client library would do.

Source: RFC 9113, section 4 (frames), and RFC 7541, section 6.2.2 (literals without indexing).
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import Self

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
PATH = b"/inference.GRPCInferenceService/ModelInfer"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def headers(path: bytes = PATH) -> bytes:
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"test"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    return b"".join(b"\0" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in fields)


def framed(message: bytes) -> bytes:
    """Put the mark and the length of gRPC in front of a message."""
    return b"\0" + struct.pack(">I", len(message)) + message


class Connection:
    """One connection. A thread takes what comes, and notes the kinds of the frames.

    Args:
        window_bytes: what the other side may send on a stream; 0 for nothing.
    """

    def __init__(self, port: int, window_bytes: int = 1 << 20) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.kinds: list[int] = []
        self.is_over = threading.Event()
        settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window_bytes))
        self.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + frame(SETTINGS, ACK, 0))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, data: bytes) -> bool:
        """Send bytes; says whether the other side still takes any."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def ask(self, stream: int, message: bytes, *, is_whole: bool = True) -> bool:
        """Begin a call with a message of at most 16 KiB, or a part of one."""
        flags = END_STREAM if is_whole else 0
        return self.send(frame(HEADERS, END_HEADERS, stream, headers()) + frame(DATA, flags, stream, message))

    def _read(self) -> None:
        file = self._socket.makefile("rb")
        try:
            while len(head := file.read(9)) == 9:
                file.read(int.from_bytes(head[:3], "big"))
                self.kinds.append(head[3])
        except OSError:
            pass
        self.is_over.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._reader.join(20)
