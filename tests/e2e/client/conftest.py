"""One stack for all tests of the clients: two models of one's own, and echo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.client import Client, Stream
from tests.e2e.stack import Process, Stack

NAMES = ("moods", "sums", "photos", "echo", "writer")
MODELS = """
[models.client-moods]
family = "python"
entry = "{file}:Moods"

[models.client-sums]
family = "python"
entry = "{file}:Sums"

[models.client-photos]
family = "python"
entry = "{file}:Photos"

[models.client-echo]
family = "echo"

[models.client-writer]
family = "generate"
architecture = "null"
options = {{ slots = 8, step_ms = 20 }}

[models.client-gone]
family = "echo"
"""


Served = tuple[Stack, Process]


@pytest.fixture(scope="package")
def served(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A front end, and a consumer of each model; the first of these."""
    models = tmp_path_factory.mktemp("client") / "models.toml"
    models.write_text(MODELS.format(file=Path(__file__).with_name("models.py")))
    with Stack(valkey_url, models, TUNE="off") as running:
        running.start_front_end()
        consumers = [running.begin_consumer(f"client-{name}") for name in NAMES]
        for consumer in consumers:
            consumer.until("Ready: ")
        for name in NAMES[:-1]:
            running.wait(f"client-{name}")
        yield running, consumers[0]


@pytest.fixture(scope="package")
def stack(served: Served) -> Stack:
    """The stack."""
    return served[0]


@pytest.fixture(scope="package")
def moods(served: Served) -> Process:
    """The consumer of client-moods."""
    return served[1]


@pytest.fixture(scope="package")
def client(stack: Stack) -> Iterator[Client]:
    """A client of it."""
    with Client(stack.url) as made:
        yield made


@pytest.fixture(scope="package")
def stream(stack: Stack, valkey_url: str) -> Iterator[Stream]:
    """The same models without the front end."""
    with Stream(valkey_url) as made:
        yield made
