"""[I/O] What a result should say about where it was measured; null wherever that cannot be found out."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from pathlib import Path

from .runfile import Commit, Machine


def describe_machine() -> Machine:
    """Return this machine's description, without its name or addresses."""
    memory_bytes: int | None = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    load_1m: float | None = None
    with contextlib.suppress(OSError, AttributeError):
        load_1m = os.getloadavg()[0]
    return Machine(
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])} {platform.machine()}",
        processor=_processor(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        memory_bytes=memory_bytes,
        python=platform.python_version(),
        load_1m=load_1m,
    )


def current_commit(folder: Path = Path()) -> Commit | None:
    """Return the commit checked out in a folder, or None without git or a commit."""
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return Commit(id=commit, dirty=None if changes is None else bool(changes))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip() or None
    return platform.processor() or None
