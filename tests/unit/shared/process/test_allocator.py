"""Freed memory stays with the process: the second use of a large block costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from shared.process.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    print("unsupported")
    sys.exit()
def use():
    np.empty(50_000_000, np.uint8).fill(1)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> str:
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], check=True, capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


def test_a_large_block_is_faulted_in_once() -> None:
    kept = faults("keep")
    if kept == "unsupported":
        pytest.skip("not glibc")
    assert int(kept) * 10 < int(faults("plain"))
