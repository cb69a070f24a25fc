"""What of the machine may be used."""

from __future__ import annotations

import os

import pytest

from shared.process.machine import Machine, parse_cpu_max, this_machine, usable_cores, visible_gpus


def test_a_quota_counts_whole_cores_only() -> None:
    assert Machine((0, 1, 2, 3)).usable_cores == 4
    assert Machine((0, 1, 2, 3), 2.5).usable_cores == 2
    assert Machine((0, 1, 2, 3), 3.999).usable_cores == 4  # as good as four
    assert Machine((0, 1, 2, 3), 0.5).usable_cores == 1
    assert Machine((0, 1), 64.0).usable_cores == 2


@pytest.mark.parametrize(
    ("text", "quotas"), [("max 100000", []), ("150000 100000\n", [1.5]), ("max\n100000", []), ("50000 100000", [0.5])]
)
def test_cpu_max_is_read(text: str, quotas: list[float]) -> None:
    assert parse_cpu_max(text) == quotas


@pytest.mark.parametrize(
    ("setting", "count", "gpus"),
    [
        (None, 0, ()),
        (None, 2, ("0", "1")),
        ("", 2, ()),
        ("-1", 2, ()),
        ("1", 2, ("1",)),
        ("1, 0", 2, ("1", "0")),
        ("0,-1,1", 4, ("0",)),
        ("GPU-8932f937,GPU-ab", 2, ("GPU-8932f937", "GPU-ab")),
        ("0", 0, ()),
    ],
)
def test_gpus_are_those_that_cuda_would_see(setting: str | None, count: int, gpus: tuple[str, ...]) -> None:
    assert visible_gpus(setting, count) == gpus


def test_this_machine_has_the_cores_of_this_process() -> None:
    machine = this_machine(os.environ)
    assert 1 <= usable_cores() == machine.usable_cores <= len(machine.cores)
    if hasattr(os, "sched_getaffinity"):
        assert set(machine.cores) == os.sched_getaffinity(0)
        assert machine.can_pin
    assert machine.free_memory_bytes is None or machine.free_memory_bytes > 0
    assert this_machine({"CUDA_VISIBLE_DEVICES": ""}).gpus == ()
