"""The examples of docs/open-inference.md against the real HTTP server over an in-memory queue."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec
import pytest

from consumer.models.base import IMAGES, RAW, Result
from shared.settings import Settings
from shared.state.cards import PREDICTIONS, TENSORS, TensorSpec
from shared.wire.messages import Request, Tensor
from tests.e2e.examples import examples_of, run_example
from tests.e2e.http_server import HttpServer
from tests.fakes import ECHO, LABELS, InMemoryQueue, card, classify, echo

_EXAMPLES = examples_of("docs/open-inference.md")


def classifier(request: Request) -> Result:
    """Logits when asked, else classes."""
    if request.params.get("answer") != TENSORS:
        return classify(request)
    return Result(outputs=(Tensor("logits", "FP32", (1, len(LABELS)), struct.pack("<4f", 1, 4, 2, 3)),))


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    """Serves the models that the page speaks of."""
    queue, picture = InMemoryQueue(), TensorSpec("input", "UINT8", (224, 224, 3))
    imagenet = msgspec.structs.replace(
        card("imagenet", [picture], content_types=(*IMAGES, RAW), labels=LABELS),
        outputs=(TensorSpec("logits", "FP32", (len(LABELS),)),),
        answers=(PREDICTIONS, TENSORS),
        family="timm",
    )
    queue.serve("imagenet", imagenet, classifier)
    queue.serve("echo", ECHO, echo)
    with HttpServer(Settings(default_model="echo"), queue=queue) as running:
        yield running


@pytest.mark.parametrize("example", _EXAMPLES, ids=range(len(_EXAMPLES)))
def test_example(server: HttpServer, example: str) -> None:
    done = run_example(example, server.port)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    if example.startswith("import"):
        assert done.stdout.splitlines() == ["[1]", "[[b'0.500000:0:tench' b'0.250000:1:goldfish' b'0.166667:2:cat']]"]
