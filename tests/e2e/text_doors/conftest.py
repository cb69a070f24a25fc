"""One stack for these tests: a small random encoder, a front end with every door, and a result store."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from shared.redis.embedded import free_port
from tests.e2e.stack import Process, Response, Stack, call
from tests.e2e.text_doors import bert

TEXTS = ("the cat sat on the mat", "a dog", "stock fell")


@dataclass(frozen=True, slots=True)
class Place:
    """What runs.

    Attributes:
        model: the name of the encoder; its vectors have 32 numbers, its context is 32 tokens, a batch has 16.
        redis_url: where its lane is.
        grpc: address of the front end's gRPC.
    """

    stack: Stack
    consumer: Process
    model: str
    redis_url: str
    grpc: str

    def ask(self, *texts: str, **parameters: Any) -> Response:
        """Send texts to our own dialect."""
        inputs = [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}]
        document = {"inputs": inputs, **({"parameters": parameters} if parameters else {})}
        return self.stack.predict(self.model, json.dumps(document).encode(), "application/json")

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> Response:
        """Send a body anywhere."""
        return call(f"{self.stack.url}{path}", body, content_type)

    def serves(self) -> bool:
        """Say whether a good text is still answered."""
        return self.ask("a dog").status == 200


def vectors(outputs: list[dict[str, Any]], name: str = "embedding") -> Any:
    """An output of our own dialect as an array."""
    found = next(one for one in outputs if one["name"] == name)
    return np.array(found["data"], np.float32).reshape(found["shape"])


@pytest.fixture(scope="package")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start it."""
    folder, model = tmp_path_factory.mktemp("text-doors"), f"test-tiny-{secrets.token_hex(6)}"
    (folder / "tiny").mkdir()
    bert.save(folder / "tiny")
    models = folder / "models.toml"
    models.write_text(
        f'[models.{model}]\nfamily = "text"\nweights = "{folder / "tiny"}"\nprecision = "fp32"\nmax_batch = 2048\n'
        "text = { batch_tokens = 16, request_tokens = 20000 }\n"
    )
    port = free_port()
    more = {"DATA_DIR": str(folder / "data"), "RESULTS": str(folder / "results"), "DEFAULT_MODEL": model}
    with Stack(valkey_url, models, **more) as stack:
        consumer = stack.begin_consumer(model)
        stack.start_front_end(GRPC_PORT=str(port))
        consumer.until("Ready: ")
        stack.wait(model)
        yield Place(stack, consumer, model, valkey_url, f"127.0.0.1:{port}")


@pytest.fixture(scope="package")
def expected(place: Place) -> Any:
    """The vectors of ``TEXTS``, as our own dialect gives them."""
    response = place.ask(*TEXTS)
    assert response.status == 200, response.body
    return vectors(response.body["outputs"])
