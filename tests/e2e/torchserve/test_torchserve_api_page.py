"""The examples of docs/torchserve-api.md against the real HTTP server over an in-memory queue."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from consumer.models.base import IMAGES, RAW
from shared.state.cards import TensorSpec
from tests.e2e.examples import examples_of, run_example
from tests.e2e.http_server import HttpServer
from tests.fakes import LABELS, InMemoryQueue, card, classify

_EXAMPLES = examples_of("docs/torchserve-api.md")


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    """Serves the model that the page speaks of."""
    queue = InMemoryQueue()
    picture = TensorSpec("input", "UINT8", (224, 224, 3))
    queue.serve("imagenet", card("imagenet", [picture], content_types=(*IMAGES, RAW), labels=LABELS), classify)
    with HttpServer(queue=queue) as running:
        yield running


@pytest.mark.parametrize("example", _EXAMPLES, ids=range(len(_EXAMPLES)))
def test_example(server: HttpServer, example: str) -> None:
    done = run_example(example, server.port)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer == {"status": "Healthy"} or all(isinstance(score, float) for score in answer.values())
