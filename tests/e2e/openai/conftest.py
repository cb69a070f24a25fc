"""One stack for all of these tests: a front end, models of texts, one that generates, and one that takes none."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from tests.e2e.stack import Process, Stack


@dataclass(frozen=True, slots=True)
class Place:
    """What runs.

    Attributes:
        client: OpenAI's own, as it is installed.
        letters, pairs, writer, slow, single, echo: names of the models. The three in the middle repeat their prompt,
            byte by byte, ``slow`` and ``single`` with 20 ms between; ``single`` has one slot.
        slow_consumer: that of ``slow``.
        counted: one that no consumer serves yet; it has one slot, and 0.3 s between steps.
    """

    stack: Stack
    client: openai.OpenAI
    letters: str
    pairs: str
    writer: str
    slow: str
    single: str
    echo: str
    slow_consumer: Process
    counted: str


@pytest.fixture(scope="package")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start it."""
    folder, unique = tmp_path_factory.mktemp("openai"), secrets.token_hex(6)
    kinds = ("letters", "pairs", "writer", "slow", "single", "echo")
    letters, pairs, writer, slow, single, echo = names = tuple(f"test-{kind}-{unique}" for kind in kinds)
    counted = f"test-counted-{unique}"
    models: Path = folder / "models.toml"
    models.write_text(
        f'[models.{letters}]\nfamily = "python"\nentry = "tests.e2e.openai.letters:create"\nmax_batch = 200\n'
        f'buckets = [1]\n[models.{pairs}]\nfamily = "python"\nentry = "tests.e2e.openai.pairs:create"\n'
        f'[models.{writer}]\nfamily = "generate"\narchitecture = "null"\noptions = {{ slots = 64 }}\n'
        f'[models.{slow}]\nfamily = "generate"\narchitecture = "null"\noptions = {{ slots = 64, step_ms = 20 }}\n'
        f'[models.{single}]\nfamily = "generate"\narchitecture = "null"\noptions = {{ slots = 1, step_ms = 20 }}\n'
        f'[models.{echo}]\nfamily = "echo"\n'
        f'[models.{counted}]\nfamily = "generate"\narchitecture = "null"\noptions = {{ slots = 1, step_ms = 300 }}\n'
    )
    with Stack(valkey_url, models, RESULTS=str(folder / "results"), LEASE_MS="1500") as stack:
        processes = [stack.begin_consumer(name) for name in names]
        stack.start_front_end()
        for process in processes:
            process.until("Ready: ")
        for name in (letters, pairs, echo):
            stack.wait(name)
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
            yield Place(stack, client, letters, pairs, writer, slow, single, echo, processes[3], counted)
