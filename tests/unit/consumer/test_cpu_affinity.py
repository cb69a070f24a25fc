"""A thread runs on the cores it is given, and wrong ones are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from consumer import cpu_affinity
from shared.settings import SettingsError
from tests.children import ROOT, clean_environment

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")


def test_the_list_is_read() -> None:
    assert cpu_affinity.parse("") == frozenset()
    assert cpu_affinity.parse(" 2, 3 ") == {2, 3}
    for text, part in (("a", "numbers separated by commas"), ("1,,2", "numbers"), ("-1", "must not be negative")):
        with pytest.raises(SettingsError, match=part):
            cpu_affinity.parse(text)


@needs_affinity
def test_a_thread_and_what_it_starts_stay_on_the_core() -> None:
    core = min(os.sched_getaffinity(0))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(cpu_affinity.pin, frozenset({core})).result()
        assert pool.submit(os.sched_getaffinity, 0).result() == {core}
        with pool.submit(ThreadPoolExecutor, 1).result() as inner:
            assert pool.submit(lambda: inner.submit(os.sched_getaffinity, 0).result()).result() == {core}


@needs_affinity
def test_no_cores_change_nothing() -> None:
    before = os.sched_getaffinity(0)
    cpu_affinity.pin(frozenset())
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_a_core_that_is_not_there_ends_the_consumer_with_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "consumer", "--model", "echo", "--cores", "100000"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("--cores: core 100000 is not one of those this process may use (")
    assert done.stderr.count("\n") == 1
