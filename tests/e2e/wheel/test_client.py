"""The client and the kit for tests as the wheel installs them, in programs outside the checkout."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from shared.redis.embedded import free_port
from tests.unit.headrace.stacks import Running

from .building import Installed

ASK = """
import asyncio, sys
from headrace.client import AsyncClient, Client, Stream

async def late(url):
    async with AsyncClient(url) as client:
        return await client.predict("echo", b"asyncio")

url, redis = sys.argv[1:]
with Client(url) as client, Stream(redis) as stream:
    answers = client.predict("echo", b"rest"), asyncio.run(late(url)), stream.predict("echo", b"stream")
print(*[answer.outputs["output"].tobytes().decode() for answer in answers])
"""

CHECK = """
from headrace import testing
from headrace.model import TextModel

class Lengths(TextModel):
    def load(self, device, precision):
        pass
    def compute(self, texts):
        return [[len(text)] for text in texts]

with testing.stack(Lengths()) as stack:
    stack.together(["a", "bb"])
    print(stack.batches[0].rows, stack.predict("ccc").outputs["vector"].tolist())
"""


@pytest.mark.soak  # the clients are in tests/e2e/client
def test_programs_of_ones_own_ask_a_stack(installed: Installed, tmp_path: Path) -> None:
    port = free_port()
    settings = {
        "HEADRACE_MODELS": "echo",
        "HEADRACE_PORT": "0",
        "HEADRACE_REDIS_PORT": str(port),
        "HEADRACE_METRICS_PORT": "0",
        "PYTHONPATH": "",
    }
    with Running([str(installed.bin / "headrace"), "up"], settings, cwd=tmp_path) as running:
        url = running.until(r"(http://127\.0\.0\.1:\d+)/docs")[1]
        running.until(r"Ctrl-C stops everything")
        done = installed.run("-c", ASK, url, f"redis://127.0.0.1:{port}", cwd=tmp_path)
    assert done.stdout.split() == ["rest", "asyncio", "stream"]


def test_a_model_is_tested_without_a_stack(installed: Installed, tmp_path: Path) -> None:
    assert installed.run("-c", CHECK, cwd=tmp_path).stdout.split() == ["2", "[[3.0]]"]


def test_type_checkers_take_its_annotations(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert "headrace/py.typed" in archive.namelist()
