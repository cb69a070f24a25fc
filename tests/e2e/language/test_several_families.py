"""Pictures, texts and chats from one command, as a new user tries them: OpenAI's own client, and a ``kill -9``."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.children import ROOT
from tests.e2e.language.conftest import Weights
from tests.e2e.stack import call
from tests.unit.headrace.stacks import Running

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

UP = [sys.executable, "-m", "headrace", "up"]
STORY = "Once upon a time, there was a small boat."


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Iterator[Running]:
    """What ``make up HEADRACE_MODELS=imagenet,minilm,smollm2`` starts."""
    settings = {
        "HEADRACE_MODELS": "imagenet,minilm,smollm2",
        "HEADRACE_DATA_DIR": str(weights.data),
        "HEADRACE_PORT": "0",
        "HEADRACE_REDIS_PORT": "0",
        "HEADRACE_METRICS_PORT": "0",
        "HEADRACE_TUNE": "off",  # which would compete for the cores
        "HEADRACE_LEASE_MS": "2000",
        "HEADRACE_LONGEST_BATCH_MS": "60000",  # of a step
        "HEADRACE_MAX_TIMEOUT_MS": "600000",  # of a whole answer: the machine may be busy
        "HEADRACE_DEFAULT_TIMEOUT_MS": "120000",
    }
    with Running(UP, settings) as running:
        running.until(r"Ctrl-C stops everything")
        if "LOADING" in running.output:
            running.until(r"smollm2 is ready now")
        yield running
        running.signal(signal.SIGTERM)
        assert running.end() == 0, running.output


@pytest.fixture(scope="module")
def url(stack: Running) -> str:
    found = re.search(r"API +(http://\S+)", stack.output)
    assert found is not None
    return found[1]


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=500) as made:
        yield made


def consumer_of(stack: Running, model: str) -> int:
    """The newest process that serves a model."""
    children = Path(f"/proc/{stack.process.pid}/task/{stack.process.pid}/children").read_text().split()
    lines = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in children}
    [found] = [pid for pid, line in lines.items() if b"consumer" in line and model.encode() in line]
    return found


def test_each_model_is_asked_by_its_name(client: openai.OpenAI, url: str) -> None:
    assert [model.id for model in client.models.list()] == ["imagenet", "minilm", "smollm2"]
    cat, kitten, stocks = (
        one.embedding
        for one in client.embeddings.create(model="minilm", input=["a cat", "a kitten", "stocks fell"]).data
    )
    near, far = (sum(a * b for a, b in zip(cat, other, strict=True)) for other in (kitten, stocks))
    assert near > 0.6 > far
    photo = (ROOT / "examples/photos/cat.jpg").read_bytes()
    seen = call(f"{url}/v1/models/imagenet/predict", photo, "image/jpeg").body
    assert seen["predictions"][0]["label"] == "Egyptian cat"
    parts = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            max_tokens=40,
            stream=True,
        )
    ]
    assert "".join(parts) == "The capital of France is Paris."
    assert sum(map(bool, parts)) > 3


def test_one_process_holds_the_weights_of_the_language_model(stack: Running) -> None:
    assert re.search(r"starting redis, (.*)\.", stack.output)
    started = stack.output.partition("starting redis, ")[2].partition("\n")[0]
    assert started.count("consumer smollm2") == 1
    consumer_of(stack, "smollm2")


def test_kill_9_in_the_middle_and_the_sentence_goes_on(stack: Running, client: openai.OpenAI) -> None:
    asked = {"model": "smollm2", "prompt": STORY, "temperature": 0, "max_tokens": 48}
    undisturbed = client.completions.create(**asked).choices[0].text  # type: ignore[call-overload]
    killed, parts = 0, []
    for chunk in client.completions.create(stream=True, **asked):  # type: ignore[call-overload]
        parts.append(chunk.choices[0].text)
        if not killed and len("".join(parts)) > 20:
            killed = consumer_of(stack, "smollm2")
            os.kill(killed, signal.SIGKILL)
    assert killed
    assert "".join(parts) == undisturbed
    stack.until(r"consumer smollm2 ended with code 137; starting it again")
    # The others have not noticed.
    assert len(client.embeddings.create(model="minilm", input="a cat").data) == 1
