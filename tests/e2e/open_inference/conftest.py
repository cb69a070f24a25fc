"""One stack for all of these tests: a front end, and three models."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.stack import Stack
from tests.unit.consumer.models.onnx_files import FLOAT, UINT8, node, proto, value, written

LABELS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class Place:
    """What runs.

    Attributes:
        address: host and port of the front end.
        echo, mixed, colours: names of the models; ``colours`` is a classifier of pictures of 8 by 8 pixels, whose
            logits are the means of the three colours.
    """

    stack: Stack
    address: str
    echo: str
    mixed: str
    colours: str


@pytest.fixture(scope="package")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start it."""
    folder, unique = tmp_path_factory.mktemp("open-inference"), secrets.token_hex(6)
    echo, mixed, colours = (f"test-{name}-{unique}" for name in ("echo", "mixed", "colours"))
    nodes = [node("Cast", "x", "floats", to=FLOAT), node("ReduceMean", "floats", "y", axes=[1, 2], keepdims=0)]
    network = proto(nodes, [value("x", UINT8, ["n", 8, 8, 3])], [value("y", FLOAT, ["n", 3])])
    file = written(folder, network)
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    models = folder / "models.toml"
    models.write_text(
        f'[models.{echo}]\nfamily = "echo"\n'
        f'[models.{mixed}]\nfamily = "python"\nentry = "tests.e2e.open_inference.mixed:create"\nversion = "7"\n'
        f'[models.{colours}]\nfamily = "onnx"\nweights = "{file}"\nlabels = "{folder / "labels.txt"}"\n'
    )
    with Stack(valkey_url, models) as stack:
        processes = [stack.begin_consumer(name) for name in (echo, mixed, colours)]
        stack.start_front_end()
        for process in processes:
            process.until("Ready: ")
        for name in (echo, mixed, colours):
            stack.wait(name)
        yield Place(stack, stack.url.removeprefix("http://"), echo, mixed, colours)
