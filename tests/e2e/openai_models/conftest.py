"""One stack with small models that are real but for their weights: a language model, a reranker and an encoder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import openai
import pytest

from tests.e2e.stack import Stack
from tests.unit.consumer.generation.test_model_files import saved
from tests.unit.consumer.models.text import tiny


@dataclass(frozen=True, slots=True)
class Place:
    """What runs.

    Attributes:
        client: OpenAI's own, as it is installed.
        writer, ranker, encoder: names of the models.
    """

    stack: Stack
    client: openai.OpenAI
    writer: str
    ranker: str
    encoder: str


@pytest.fixture(scope="package")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start it."""
    folder, unique = tmp_path_factory.mktemp("models"), secrets.token_hex(6)
    writer, ranker, encoder = names = tuple(f"test-{kind}-{unique}" for kind in ("writer", "ranker", "encoder"))
    for name in names:
        (folder / name).mkdir()
    saved(folder / writer)
    tiny.save(folder / ranker, "BertForSequenceClassification", **tiny.labels("relevant"))
    tiny.save(folder / encoder)
    families = {writer: "generate", ranker: "text", encoder: "text"}
    models = folder / "models.toml"
    models.write_text(
        "".join(f'[models.{name}]\nfamily = "{families[name]}"\nweights = "{folder / name}"\n' for name in names)
    )
    with Stack(valkey_url, models, DATA_DIR=str(folder / "data")) as stack:
        consumers = [stack.begin_consumer(name) for name in names]
        stack.start_front_end()
        for consumer in consumers:
            consumer.until("Ready: ")
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
            yield Place(stack, client, *names)
