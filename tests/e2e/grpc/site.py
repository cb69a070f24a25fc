"""A stack whose front end serves gRPC, and what its clients send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput

from shared.redis.embedded import free_port
from tests.e2e.stack import Process, Stack
from tests.unit.consumer.models.onnx_files import FLOAT, UINT8, node, proto, value, written

ECHO, MIXED, GATE, COLOURS = "grpc-echo", "grpc-mixed", "grpc-gate", "grpc-colours"
LABELS = ("red", "green", "blue")


class Site(Stack):
    """A stack with gRPC.

    Attributes:
        target: address of the front end that was started last, as clients of gRPC take it.
        gate: the file that opens the model ``GATE``.
    """

    target = ""
    gate: Path

    def start_front_end(self, module: str = "producer_api", **settings: str) -> Process:
        """Start a front end and wait until it serves both."""
        port = free_port()
        process = super().start_front_end(module, GRPC_PORT=str(port), **settings)
        self.target = f"127.0.0.1:{port}"
        return process


@contextmanager
def site(redis_url: str, folder: Path, *models: str, **settings: str) -> Iterator[Site]:
    """Serve some of the models of these tests, and one front end."""
    gate = folder / "gate"
    tables = {
        ECHO: 'family = "echo"',
        MIXED: 'family = "python"\nentry = "tests.e2e.grpc.models:mixed"',
        GATE: f'family = "python"\nentry = "tests.e2e.grpc.models:gate"\noptions = {{ gate = "{gate}" }}',
        COLOURS: f'family = "onnx"\nweights = "{_means(folder)}"\nlabels = "{folder / "labels.txt"}"',
    }
    file = folder / "models.toml"
    file.write_text("".join(f"[models.{name}]\n{tables[name]}\n" for name in models))
    with Site(redis_url, file, **settings) as running:
        running.gate = gate
        consumers = [running.begin_consumer(name) for name in models]
        for consumer in consumers:
            consumer.until("Ready: ")
        running.start_front_end()
        yield running


def _means(folder: Path) -> Path:
    """Write a classifier of pictures of 8 by 8 pixels, whose scores are the means of the three colours."""
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    nodes = [node("Cast", "x", "floats", to=FLOAT), node("ReduceMean", "floats", "y", axes=[1, 2], keepdims=0)]
    return written(folder, proto(nodes, [value("x", UINT8, ["n", 8, 8, 3])], [value("y", FLOAT, ["n", 3])]))


def echoed(*values: int) -> InferInput:
    """Return the input of the model ``ECHO``."""
    made = InferInput("input", [1, len(values)], "UINT8")
    made.set_data_from_numpy(np.array([values], np.uint8))
    return made


def number(value: int) -> InferInput:
    """Return the input of the model ``GATE``; a negative one waits for the gate."""
    made = InferInput("number", [1, 1], "INT64")
    made.set_data_from_numpy(np.array([[value]], np.int64))
    return made


def several(rows: int = 2) -> list[InferInput]:
    """Return the inputs of the model ``MIXED``."""
    arrays: dict[str, tuple[str, Any]] = {
        "single": ("FP32", np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)),
        "half": ("FP16", np.full((rows, 2), 0.5, np.float16)),
        "whole": ("INT64", np.ones((rows, 3), np.int64)),
        "text": ("BYTES", np.array([[f"größe {row}".encode()] for row in range(rows)], object)),
    }
    made = []
    for name, (datatype, array) in arrays.items():
        one = InferInput(name, list(array.shape), datatype)
        one.set_data_from_numpy(array)
        made.append(one)
    return made


def connected(site: Site) -> InferenceServerClient:
    """Return a client."""
    return InferenceServerClient(site.target)
