"""The examples of docs/rest.md against the real HTTP server over an in-memory queue."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consumer.models.base import IMAGES, RAW
from shared.state.cards import TensorSpec
from tests.e2e.examples import examples_of, run_example
from tests.e2e.http_server import HttpServer
from tests.fakes import ECHO, LABELS, InMemoryQueue, card, classify, echo

_EXAMPLES = examples_of("docs/rest.md")


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    """Serves the models that the page speaks of."""
    queue = InMemoryQueue()
    picture = TensorSpec("input", "UINT8", (224, 224, 3))
    queue.serve("imagenet", card("imagenet", [picture], content_types=(*IMAGES, RAW), labels=LABELS), classify)
    queue.serve("echo", ECHO, echo)
    with HttpServer(queue=queue) as running:
        yield running


@pytest.mark.parametrize("example", _EXAMPLES, ids=range(len(_EXAMPLES)))
def test_example(server: HttpServer, example: str) -> None:
    done = run_example(example, server.port)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_the_page_has_examples_of_every_form() -> None:
    text = "\n".join(_EXAMPLES)
    for form in ("image/jpeg", "application/octet-stream", "application/json", "application/msgpack", "image_base64"):
        assert form in text
