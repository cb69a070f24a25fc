"""The transport as this front end uses it: one system call per response, and a close that the client survives."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any, Final

_PIECE_BYTES: Final = 64 * 1024
"""TLS takes whatever it is given and says that all is sent. It gets pieces, so that it is seen when a client reads
nothing."""

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_MOVED: Final = struct.Struct("QQ")
_MOVED_AT: Final = 120
_MOVED_END: Final = _MOVED_AT + _MOVED.size
"""Where ``struct tcp_info`` of Linux has ``tcpi_bytes_acked`` and ``tcpi_bytes_received``."""


class CoalescingTransport:
    """A transport that sends what one turn of the event loop writes in one piece; all else goes to the one it wraps.

    Args:
        on_close: called instead of closing, once what was written has been handed on.

    Attributes:
        is_over: nothing is written any more, by ``close`` or because the connection is gone.
        flushed_bytes: how much was handed on last.
        is_tls: what is sent is encrypted.
    """

    __slots__ = ("_loop", "_on_close", "_pending", "_rest", "_transport", "flushed_bytes", "is_over", "is_tls")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_close: Callable[[], None]
    ) -> None:
        self._transport, self._loop, self._on_close = transport, loop, on_close
        self._pending: list[bytes] = []
        self._rest: memoryview | None = None
        self.is_tls = transport.get_extra_info("ssl_object") is not None
        self.is_over, self.flushed_bytes = False, 0

    def write(self, data: bytes) -> None:
        """Send ``data`` at the end of this turn."""
        if self.is_over:
            return
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if not pending or self._transport.is_closing():
            return
        data = b"".join(pending)
        self.flushed_bytes = len(data)
        if self._rest is not None:
            self._rest = memoryview(b"".join((self._rest, data)))
        elif self.is_tls and len(data) > _PIECE_BYTES:
            self._rest = memoryview(data)
            self.write_rest()
        else:
            self._transport.write(data)

    def write_rest(self) -> bool:
        """Hand on what TLS has not been given yet, as far as the client reads; True when nothing is left."""
        while (rest := self._rest) is not None and not self._transport.is_closing():
            self._rest = rest[_PIECE_BYTES:] if len(rest) > _PIECE_BYTES else None
            self._transport.write(rest[:_PIECE_BYTES])
            if self._transport.get_write_buffer_size():
                return False
        return self._rest is None

    def unread_bytes(self) -> int:
        """Bytes written that the client's side has not taken yet, here and in the kernel."""
        here = self._transport.get_write_buffer_size() + (0 if self._rest is None else len(self._rest))
        try:
            queued = fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, AttributeError):  # a system that cannot say it, or a socket that is gone
            return here
        in_kernel: int = struct.unpack("i", queued)[0]
        return here + in_kernel

    def moved_bytes(self) -> tuple[int, int]:
        """Bytes that the client's side has taken and has sent; what counts is how much more they become.

        Linux counts both for each socket, below TLS and all buffers; elsewhere taken is what does not wait here.
        """
        if _TCP_INFO is not None:
            try:
                told = self._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _MOVED_END)
                if len(told) == _MOVED_END:
                    taken, sent = _MOVED.unpack_from(told, _MOVED_AT)
                    return taken, sent
            except (OSError, AttributeError):
                return 0, 0
        return -self._transport.get_write_buffer_size(), 0

    def close(self) -> None:
        """Write no more, and have the protocol end the connection so that the client still gets what was written."""
        if not self.is_over:
            self._flush()
            self.is_over = True
            self._on_close()

    def close_now(self) -> None:
        """Close without more ado; what was written is still sent, also what this turn of the event loop wrote."""
        self._flush()
        self.is_over = True
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what the client has not taken is lost."""
        self.is_over, self._rest = True, None
        self._transport.abort()

    def is_closing(self) -> bool:
        """Say whether nothing can be written any more."""
        return self.is_over or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
