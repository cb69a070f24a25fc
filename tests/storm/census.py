"""What a process holds open and how much memory it has, read from /proc [I/O]."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

LISTENS = "0A"
MOST_REDIS = 8
"""A consumer holds four connections to Redis and lends others to its threads, of which four may want one at once. One
that was cut while it was lent to nobody is noticed when it is used next, so it stays open until then."""
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True, slots=True)
class Census:
    """What one process holds.

    Attributes:
        redis: connections to Redis.
        cut: connections that have been cut and not been looked at since.
        clients: connections of clients to its own port.
        other: all other descriptors.
        resident_kib: memory in use.
    """

    redis: int
    cut: int
    clients: int
    other: int
    resident_kib: int

    def over(self, before: Census) -> dict[str, int]:
        """Return what is more than ``before``, memory aside."""
        pairs = {
            "connections to Redis": self.redis + self.cut - max(before.redis + before.cut, MOST_REDIS),
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


def _unix(pid: int) -> set[str]:
    """Return the inodes of sockets within this machine, which are no connections."""
    return {line.split()[6] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]}


def take(pid: int, redis_port: int, own_port: int = 0) -> Census:
    """Count what ``pid`` holds.

    Raises:
        OSError: there is no such process.
    """
    ports, local_sockets = _ports(pid), _unix(pid)
    redis = cut = clients = other = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except FileNotFoundError:
            continue
        inode = target.removeprefix("socket:[").removesuffix("]")
        local, remote, state = ports.get(inode, (0, 0, ""))
        if remote == redis_port:
            redis += 1
        elif target.startswith("socket:") and inode not in ports and inode not in local_sockets:
            cut += 1
        elif own_port and local == own_port and state != LISTENS:
            clients += 1
        else:
            other += 1
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_KIB
    return Census(redis, cut, clients, other, resident)
