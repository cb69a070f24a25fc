"""The process that clears up when the supervisor was killed.

On Linux the kernel kills each child together with the supervisor (``shared.redis.embedded.dies_with_parent``), but
neither the children's own children nor anything on macOS. This process covers both: its standard input is a pipe that
only the supervisor can write to. A line ``+123`` names a process group that runs, ``-123`` one that ended. When the
pipe closes, whatever still runs is killed, last started first. It is run as a plain script and imports next to nothing,
so that it starts at once and stays small.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable


def remaining(lines: Iterable[str]) -> list[int]:
    """Return the process groups that were named as started and not as ended, in the order they were started."""
    groups: dict[int, None] = {}
    for line in lines:
        group = int(line[1:])
        if line[0] == "+":
            groups[group] = None
        else:
            groups.pop(group, None)
    return list(groups)


def main() -> None:
    """Wait for the end of the supervisor, then kill what it left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    for group in reversed(remaining(sys.stdin)):
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    main()
