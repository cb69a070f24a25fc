"""The turn to switch precision, of which each model has one [I/O]; see docs/protocol.md."""

from __future__ import annotations

from typing import Any

from shared import keys


def take(client: Any, model: str, worker: str, lease_ms: int) -> bool:
    """Take the turn, or keep it for another lease; say whether ``worker`` has it.

    Raises:
        RedisError: the server does not answer.
    """
    key, mine = keys.turn(model), worker.encode()
    if client.set(key, mine, nx=True, px=lease_ms):
        return True
    return bool(client.get(key) == mine and client.pexpire(key, lease_ms))


def end(client: Any, model: str, worker: str) -> None:
    """Give the turn back, if ``worker`` has it.

    Raises:
        RedisError: the server does not answer.
    """
    key = keys.turn(model)
    if client.get(key) == worker.encode():
        client.delete(key)
