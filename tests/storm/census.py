"""What a process holds open and how much memory it has, read from /proc [I/O]."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LISTENS = "0A"
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True, slots=True)
class Census:
    """What one process holds.

    Attributes:
        redis: connections to Redis.
        clients: connections of clients to its own port.
        other: all other descriptors.
        resident_kib: memory in use.
    """

    redis: int
    clients: int
    other: int
    resident_kib: int

    def over(self, before: Census) -> dict[str, int]:
        """Return what is more than ``before``, memory aside."""
        pairs = {
            "connections to Redis": self.redis - before.redis,
            "connections of clients": self.clients - before.clients,
            "descriptors": self.other - before.other,
        }
        return {what: more for what, more in pairs.items() if more > 0}


def _ports(pid: int) -> dict[str, tuple[int, int, str]]:
    """Return local port, remote port and state of every TCP socket by inode."""
    found = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        cells = line.split()
        local, remote = (int(cells[index].rpartition(":")[2], 16) for index in (1, 2))
        found[cells[9]] = (local, remote, cells[3])
    return found


def take(pid: int, redis_port: int, own_port: int = 0) -> Census:
    """Count what ``pid`` holds.

    Raises:
        OSError: there is no such process.
    """
    ports = _ports(pid)
    redis = clients = other = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        local, remote, state = ports.get(target.removeprefix("socket:[").removesuffix("]"), (0, 0, ""))
        if remote == redis_port:
            redis += 1
        elif own_port and local == own_port and state != LISTENS:
            clients += 1
        else:
            other += 1
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KIB
    return Census(redis, clients, other, resident)
