"""Batches too large for the memory, and buckets: pure, with a runner that pretends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batching.buckets import GPU_SIZES, bucket_of, buckets
from consumer.runtimes.oom_splitting import OomSplitting, is_out_of_memory


class OutOfMemoryError(RuntimeError):
    """Named as torch's is."""


class Device:
    """Has room for so many rows; doubles its numbers."""

    def __init__(self, room: int) -> None:
        self.room, self.tried, self.recovered = room, list[int](), 0

    def run(self, rows: Sequence[Any]) -> Any:
        self.tried.append(len(rows))
        if len(rows) > self.room:
            raise OutOfMemoryError("Tried to allocate 20 GiB.")
        return np.array([[2 * row] for row in rows], np.float32)

    def recover(self) -> None:
        self.recovered += 1


@given(room=st.integers(1, 40), most=st.integers(1, 64), sizes=st.lists(st.integers(1, 100), min_size=1, max_size=4))
def test_every_row_is_answered_once_in_order(room: int, most: int, sizes: list[int]) -> None:
    device = Device(room)
    run = OomSplitting(device.run, most, device.recover)
    for size in sizes:
        assert run(list(range(size))).tolist() == [[2.0 * row] for row in range(size)]
        assert max(device.tried) <= most


def test_what_did_not_fit_is_not_tried_again() -> None:
    device = Device(10)
    run = OomSplitting(device.run, 32, device.recover)
    run(list(range(32)))
    assert device.tried == [32, 16, 8, 8, 8, 8]
    assert (run.most, device.recovered) == (8, 2)
    device.tried.clear()
    run(list(range(32)))
    assert device.tried == [8, 8, 8, 8]


def test_one_row_too_large_fails_and_the_next_is_run() -> None:
    device = Device(0)
    run = OomSplitting(device.run, 8)
    with pytest.raises(OutOfMemoryError):
        run([1, 2])
    device.room = 8
    assert run([1]).tolist() == [[2.0]]


def test_recovery_happens_when_the_error_is_gone() -> None:
    import sys

    seen: list[Any] = []
    device = Device(1)
    OomSplitting(device.run, 2, lambda: seen.append(sys.exc_info()[0]))([1, 2])
    assert seen == [None]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("x"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_other_errors_pass_through_untouched() -> None:
    def broken(rows: Sequence[Any]) -> Any:
        raise RuntimeError("shapes do not match")

    run = OomSplitting(broken, 8)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run([1, 2, 3])
    assert run.most == 8


@given(max_batch=st.integers(1, 4096), data=st.data())
def test_every_batch_has_the_smallest_bucket_that_holds_it(max_batch: int, data: st.DataObject) -> None:
    sizes = buckets(max_batch, GPU_SIZES)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == max_batch
    rows = data.draw(st.integers(1, max_batch))
    bucket = bucket_of(rows, sizes)
    assert rows <= bucket
    assert all(size < rows for size in sizes if size < bucket)


def test_a_batch_larger_than_every_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="no bucket of"):
        bucket_of(9, buckets(8, GPU_SIZES))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_model_that_returns_none_is_not_out_of_memory(rows: int) -> None:
    device = Device(9)

    def nothing(part: Sequence[Any]) -> Any:
        device.tried.append(len(part))

    run = OomSplitting(nothing, 8, device.recover)
    with pytest.raises(TypeError):
        run(list(range(rows)))
    assert (run.most, run.working_rows, device.tried, device.recovered) == (8, None, [rows], 0)
