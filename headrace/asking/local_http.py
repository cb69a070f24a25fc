"""One question over HTTP to a process of ours on this machine, within a bounded time [I/O].

Spoken by hand: clients of libraries go where ``http_proxy`` says, and their time limits restart with each byte.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass

MOST_BYTES = 1 << 20


class NoAnswer(Exception):
    """Nothing that could be read came back in time; the text says why."""


@dataclass(frozen=True, slots=True)
class Response:
    """Status and body of an answer."""

    status: int
    body: bytes


def reachable(host: str) -> str:
    """Return the address at which this machine reaches what listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)


def listens(host: str, port: int) -> bool:
    """Say whether anybody takes connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def ask(host: str, port: int, path: str, limit_s: float, *, tls: bool = False) -> Response:
    """Ask for ``path`` and return the answer.

    Args:
        limit_s: for all of it together.
        tls: speak TLS. The certificate is not looked at: it is for another name than this machine calls itself.

    Raises:
        NoAnswer: nobody listens there, nothing came in time, or it was no HTTP.
    """
    give_up_s = time.monotonic() + limit_s
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: */*\r\n\r\n"
    try:
        with _connected(host, port, limit_s, tls) as connection:
            connection.sendall(head.encode("ascii"))
            return _parsed(_received(connection, give_up_s))
    except TimeoutError:
        raise NoAnswer(f"no answer within {limit_s:g} s") from None
    except OSError as error:
        raise NoAnswer(error.strerror or str(error)) from None


def _connected(host: str, port: int, limit_s: float, tls: bool) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=limit_s)
    if not tls:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except BaseException:
        connection.close()
        raise


def _received(connection: socket.socket, give_up_s: float) -> bytes:
    """Return all that comes until the other side closes, or until the body is complete."""
    received = bytearray()
    while len(received) < MOST_BYTES and not _is_complete(received):
        left_s = give_up_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        chunk = connection.recv(65536)
        if not chunk:
            break
        received += chunk
    return bytes(received)


def _is_complete(received: bytearray) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
    return False


def _parsed(received: bytes) -> Response:
    head, found, body = received.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(None, 2)
    if not found or len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise NoAnswer("what listens there does not speak HTTP")
    return Response(int(words[1]), body)
