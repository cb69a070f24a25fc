"""Runs a process beside a consumer: with the lowest priority, and no longer than its parent lives.

Import it first: otherwise importing the other modules would take processor time from the consumers.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

LOOK_S = 0.5
END_S = 3.0
"""Time to end in order when the parent is gone, for instance by coming back from a long call of native code."""

NICEST = 19
EXPENDABLE = 1000
"""The value of ``oom_score_adj`` that makes Linux kill this process first if memory runs out."""


def step_back() -> None:
    """Take little more than idle processor time, and be the first to be killed if memory runs out.

    A bit of it must be left on a machine that is always busy, where a faster runtime is needed most: so the policy is
    the one of batch jobs, which never push others off a core, and not that of idle ones, which may wait for ever.
    """
    for thread in _threads():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, NICEST)
        with suppress(AttributeError, OSError):
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(EXPENDABLE), encoding="ascii")


def move(cores: str) -> None:
    """Run on ``cores``, such as ``0,1``, instead of the parent's; on those where that cannot be done."""
    if not cores:
        return
    with suppress(AttributeError, OSError, ValueError):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


def _threads() -> list[int]:
    """Priorities belong to threads on Linux; those to come take over what their parent has."""
    try:
        return [int(task.name) for task in Path("/proc/self/task").iterdir()]
    except OSError:
        return [0]


def end_with(parent: int) -> None:
    """Have this process end soon after the process ``parent``, which started it, has."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(END_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()
