"""The cores, GPUs and memory that this process may use [I/O]. Imports nothing heavy to find out."""

from __future__ import annotations

import importlib.metadata
import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.net.listener import can_share

GIB = 1 << 30
_TOOL_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What processes may use.

    Attributes:
        cores: numbers of the cores that the scheduler may choose from.
        quota_cores: processor time that the container may use, in cores; None without a quota.
        gpus: what CUDA_VISIBLE_DEVICES may name, one each.
        free_memory_bytes: memory that new processes can have; None where that is not told.
        can_pin: whether a process can be tied to a core here.
        can_share_ports: whether the kernel deals the connections of one port out to several processes.
    """

    cores: tuple[int, ...] = (0,)
    quota_cores: float | None = None
    gpus: tuple[str, ...] = ()
    free_memory_bytes: int | None = None
    can_pin: bool = False
    can_share_ports: bool = False

    @property
    def usable_cores(self) -> int:
        """Whole cores that are available. A fraction does not count: a process on it would stall again and again."""
        if self.quota_cores is None:
            return len(self.cores)
        return max(1, min(len(self.cores), math.floor(self.quota_cores + 0.01)))


def this_machine(environment: Mapping[str, str]) -> Machine:
    """Look at this machine; ``environment`` may narrow the GPUs with CUDA_VISIBLE_DEVICES."""
    return Machine(
        cores=_cores(),
        quota_cores=_quota_cores(),
        gpus=visible_gpus(environment.get("CUDA_VISIBLE_DEVICES"), _gpu_count()) if _torch_knows_cuda() else (),
        free_memory_bytes=_free_memory_bytes(),
        can_pin=hasattr(os, "sched_setaffinity"),
        can_share_ports=can_share(),
    )


def usable_cores() -> int:
    """How many cores this process may use: its affinity, and its container's quota."""
    return Machine(_cores(), _quota_cores()).usable_cores


def _cores() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def _quota_cores() -> float | None:
    """The smallest quota on the way from this process's control group to the root; version 2, else version 1."""
    quotas: list[float] = []
    for folder in _group_folders("", "0::"):
        with suppress(OSError, ValueError):
            quotas += parse_cpu_max((folder / "cpu.max").read_text())
    for folder in _group_folders("cpu", ":cpu:", ":cpu,cpuacct:"):
        with suppress(OSError, ValueError):
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            quotas += parse_cpu_max(f"{quota.strip().replace('-1', 'max')} {period}")
    return min(quotas, default=None)


def _group_folders(hierarchy: str, *marks: str) -> list[Path]:
    """The control group of this process and those above it, as far as they can be seen."""
    root = Path("/sys/fs/cgroup") / hierarchy
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    path = next((line.rpartition(":")[2] for line in lines if any(mark in line for mark in marks)), "/")
    own = root / path.strip("/")
    return [own, *(parent for parent in own.parents if parent == root or root in parent.parents)]


def parse_cpu_max(text: str) -> list[float]:
    """Return the quota that ``cpu.max`` states, in cores, as a list of one; none for ``max``.

    Raises:
        ValueError: the text is no such line.
    """
    quota, period = text.split()
    return [] if quota == "max" else [int(quota) / int(period)]


def visible_gpus(setting: str | None, count: int) -> tuple[str, ...]:
    """Return what each process may be given as its CUDA_VISIBLE_DEVICES.

    Args:
        setting: the variable as it is set now; CUDA itself stops reading it at the first -1.
        count: GPUs that the system shows.
    """
    if setting is None:
        return tuple(str(number) for number in range(count))
    names: list[str] = []
    for name in (part.strip() for part in setting.split(",")):
        if name in ("", "-1", "NoDevFiles"):
            break
        names.append(name)
    return tuple(names[:count])


def _gpu_count() -> int:
    """GPUs by their device files, which need no driver call; without such files, as under WSL, by NVIDIA's tool."""
    with suppress(OSError):
        files = sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in Path("/dev").iterdir())
        if files:
            return files
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    with suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=_TOOL_LIMIT_S, check=True).stdout
        return sum(line.startswith("GPU ") for line in listed.splitlines())
    return 0


def _torch_knows_cuda() -> bool:
    """Say whether the installed torch may use GPUs: its builds for the CPU alone say so in their version."""
    try:
        return "+cpu" not in importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return False


def _free_memory_bytes() -> int | None:
    """Memory that can be had without swapping, or the container's limit where that is less."""
    found: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024)
    for folder in _group_folders("", "0::"):
        with suppress(OSError, ValueError):
            found.append(int((folder / "memory.max").read_text()))
    return min(found, default=None)
