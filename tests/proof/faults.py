"""[I/O] Faults that are put on a running service from outside, to see whether the gate notices."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, cast

_STOPPED_S: Final = 0.25
_RUNNING_S: Final = 0.25


class _Side(asyncio.Protocol):
    """One side of the proxy.

    Args:
        opened: every open connection is in it.
    """

    def __init__(self, opened: set[asyncio.Transport]) -> None:
        self._opened = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._opened.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._opened.discard(self.transport)


class _Upstream(_Side):
    """The side towards the service: hands answers on after a while, in order."""

    def __init__(self, opened: set[asyncio.Transport], client: asyncio.Transport, delay_s: float) -> None:
        super().__init__(opened)
        self._client, self._delay_s, self._loop = client, delay_s, asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._loop.call_later(self._delay_s, self._hand_on, data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._loop.call_later(self._delay_s, self._client.close)

    def _hand_on(self, data: bytes) -> None:
        if not self._client.is_closing():
            self._client.write(data)


class _Downstream(_Side):
    """The side towards the client: hands requests on at once."""

    def __init__(self, opened: set[asyncio.Transport], address: tuple[str, int], delay_s: float) -> None:
        super().__init__(opened)
        self._address, self._delay_s = address, delay_s
        self._early: list[bytes] = []
        self._upstream: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            upstream, _ = await asyncio.get_running_loop().create_connection(
                lambda: _Upstream(self._opened, self.transport, self._delay_s), *self._address
            )
        except OSError:
            self.transport.close()
            return
        self._upstream = upstream
        if self.transport.is_closing():
            upstream.close()
        else:
            upstream.write(b"".join(self._early))

    def data_received(self, data: bytes) -> None:
        if self._upstream is None:
            self._early.append(data)
        else:
            self._upstream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._upstream is not None:
            self._upstream.close()


async def _shut(listener: asyncio.Server, opened: set[asyncio.Transport]) -> None:
    """Leave nothing open: a forgotten transport is told of whenever Python collects its garbage."""
    # What was just accepted cannot be attached to a closed server, and stays open; so the server is closed last.
    asyncio.get_running_loop().remove_reader(listener.sockets[0].fileno())
    while connecting := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.gather(*connecting, return_exceptions=True)
    for transport in opened:
        transport.abort()
    await asyncio.sleep(0)  # which closes them
    listener.close()


@contextmanager
def delaying_proxy(address: tuple[str, int], delay_s: float) -> Iterator[str]:
    """Serve on a free port what `address` serves, each answer later by `delay_s`; gives the proxy's address."""
    loop = asyncio.new_event_loop()
    opened: set[asyncio.Transport] = set()
    listener = loop.run_until_complete(
        loop.create_server(lambda: _Downstream(opened, address, delay_s), "127.0.0.1", 0, backlog=512)
    )
    thread = threading.Thread(target=loop.run_forever, name="delaying-proxy", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_shut(listener, opened), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def throttle(process: subprocess.Popen[str], limit_s: float) -> None:
    """Stop a process for a quarter of a second, twice a second, until it ends; as a machine that is too slow would."""
    pause = threading.Event()
    for _ in range(int(limit_s / (_STOPPED_S + _RUNNING_S))):
        for number, wait_s in ((signal.SIGSTOP, _STOPPED_S), (signal.SIGCONT, _RUNNING_S)):
            if process.poll() is not None:
                return
            process.send_signal(number)
            pause.wait(wait_s)


def kill_consumer(stack_pid: int) -> bool:
    """Kill one consumer of a stack without warning; False when none was found."""
    for pid in _descendants(stack_pid):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"-m" in command and b"consumer" in command:
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # The command's name stands in brackets and may hold anything; the parent is the second field behind it.
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found + [further for child in found for further in _descendants(child)]
