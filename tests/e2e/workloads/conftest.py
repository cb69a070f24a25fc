"""One stack for all of these tests: a front end, a model of texts, and one that repeats its prompt."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.loadgen.bench import Bench, make_bench
from tests.e2e.stack import Stack


@dataclass(frozen=True, slots=True)
class Place:
    """What runs. ``talk`` makes a token every 5 ms; the consumers' metrics are at these addresses."""

    stack: Stack
    redis_url: str
    talk: str
    letters: str
    talk_metrics: str
    letters_metrics: str


@pytest.fixture(scope="package")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start it."""
    folder, unique = tmp_path_factory.mktemp("workloads"), secrets.token_hex(6)
    talk, letters = f"test-talk-{unique}", f"test-letters-{unique}"
    models: Path = folder / "models.toml"
    models.write_text(
        f'[models.{talk}]\nfamily = "generate"\narchitecture = "null"\noptions = {{ slots = 64, step_ms = 5 }}\n'
        f'[models.{letters}]\nfamily = "python"\nentry = "tests.e2e.workloads.texts:create"\nmax_batch = 200\n'
        "buckets = [1]\n"
    )
    with Stack(valkey_url, models) as stack:
        processes = [stack.begin_consumer(name) for name in (talk, letters)]
        stack.start_front_end()
        addresses = [process.until("metrics at ").rpartition("metrics at ")[2].rstrip(".") for process in processes]
        for process in processes:
            process.until("Ready: ")
        stack.wait(letters)
        yield Place(stack, valkey_url, talk, letters, *addresses)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path, "")
