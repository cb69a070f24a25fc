"""One stack for all of these tests: a front end, models of texts, and one that takes none."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from tests.e2e.stack import Stack


@dataclass(frozen=True, slots=True)
class Place:
    """What runs.

    Attributes:
        client: OpenAI's own, as it is installed.
        letters, pairs, echo: names of the models.
    """

    stack: Stack
    client: openai.OpenAI
    letters: str
    pairs: str
    echo: str


@pytest.fixture(scope="package")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start it."""
    folder, unique = tmp_path_factory.mktemp("openai"), secrets.token_hex(6)
    letters, pairs, echo = names = tuple(f"test-{name}-{unique}" for name in ("letters", "pairs", "echo"))
    models: Path = folder / "models.toml"
    models.write_text(
        f'[models.{letters}]\nfamily = "python"\nentry = "tests.e2e.openai.letters:create"\nmax_batch = 4096\n'
        f'buckets = [1]\n[models.{pairs}]\nfamily = "python"\nentry = "tests.e2e.openai.pairs:create"\n'
        f'[models.{echo}]\nfamily = "echo"\n'
    )
    with Stack(valkey_url, models, RESULTS=str(folder / "results")) as stack:
        processes = [stack.begin_consumer(name) for name in names]
        stack.start_front_end()
        for process in processes:
            process.until("Ready: ")
        for name in names:
            stack.wait(name)
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
            yield Place(stack, client, letters, pairs, echo)
