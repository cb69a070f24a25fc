"""One stack for the commands of the operators' pages, on a server of its own."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from shared.redis import library
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.children import ROOT
from tests.e2e.stack import Stack
from tests.embedded import EmbeddedServer
from tests.unit.headrace.operators import LONG_LEASE, Said, headrace

COMMAND = "headrace "
MODEL = "imagenet"
"""The pages' name for it; here it echoes."""
WRITER = "smollm2"
"""Here it repeats its prompt."""
BROKEN = "broken"
"""No consumer can load it."""


@dataclass(frozen=True, slots=True)
class Site:
    """A server, a front end, a model that echoes and one that generates.

    Attributes:
        redis: address of the server.
    """

    redis: str
    stack: Stack

    def run(self, line: str) -> Said:
        """Run a line of a page: it names port 8000 and the embedded server of `make up`. A command of ours runs in this
        process: the pages have many."""
        if line.startswith(COMMAND):
            return headrace(self.redis, *shlex.split(line.removeprefix(COMMAND)), **LONG_LEASE)
        here = line.replace("http://127.0.0.1:8000", self.stack.url).replace("curl ", "curl -sS ")
        command = ["bash", "-euo", "pipefail", "-c", here]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    folder = tmp_path_factory.mktemp("guides")
    models = folder / "models.toml"
    models.write_text(
        f'[models.{MODEL}]\nfamily = "echo"\n[models.{WRITER}]\nfamily = "generate"\narchitecture = "null"\n'
        f'[models.{BROKEN}]\nfamily = "python"\nentry = "no_such_module:Model"\n'
    )
    with EmbeddedServer(ServerConfig(folder / "redis", free_port())) as server:
        with connect(server.url) as client:
            library.load(client)
        with Stack(server.url, models, DATA_DIR=str(folder / "data")) as stack:
            for model in (MODEL, WRITER):
                stack.begin_consumer(model)
            stack.start_front_end()
            for model in (MODEL, WRITER):
                stack.wait(model)
            yield Site(server.url, stack)
