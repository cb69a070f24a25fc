"""OpenAI's package for Node against a running stack.

It runs where ``NODE_CLIENT_FOLDER`` names a folder in which ``npm install openai`` was called.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.openai.conftest import Place
from tests.e2e.openai.test_embeddings import expected

_FOLDER = os.environ.get("NODE_CLIENT_FOLDER")
_SCRIPT = Path(__file__).with_name("client.mjs")


@pytest.mark.skipif(
    _FOLDER is None or shutil.which("node") is None, reason="NODE_CLIENT_FOLDER names no folder with the package."
)
def test_the_package_for_node(place: Place) -> None:
    command = ["node", str(_SCRIPT), str(_FOLDER), f"{place.stack.url}/v1", place.letters, place.writer]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {place.letters, place.writer} <= set(found["models"])
    assert found["vector"] == pytest.approx(expected("a cat"), abs=1e-6)
    assert found["whole"] == "".join(found["parts"]) == "again again " and len(found["parts"]) > 1
    assert found["response"] == "again "
    assert found["error"] == {"name": "BadRequestError", "status": 400, "param": "n"}
