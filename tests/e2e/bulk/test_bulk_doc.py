"""The commands of docs/bulk.md against a running stack."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bulk.site import Site

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/bulk.md").read_text(encoding="utf-8")
COMMANDS = list(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("bulk-doc")) as running:
        running.start("imagenet", "echo")
        yield running


def test_the_commands_in_their_order(site: Site, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command in COMMANDS:
        if "/batches/$(cat" in command and "results" in command:
            site.ended(f"/v1/models/echo/batches/{(tmp_path / 'batch.id').read_text().strip()}")
        here = command.replace("headrace batch ", "headrace batch --url http://127.0.0.1:8000 ")
        here = here.replace("http://127.0.0.1:8000", site.stack.url).replace("curl ", "curl -sS --fail-with-body ")
        here = here.replace(".venv/bin/python ", "python3 ").replace("python3 ", f"{sys.executable} ")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, command + done.stdout + done.stderr
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 3
    results = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(results) == 2
    assert '"id":"first"' in results[0]
    batches = site.ask("GET", "/v1/models/imagenet/batches").json["batches"]
    names = [{one["id"] for one in site.lines(f"/v1/models/imagenet/batches/{batch['id']}")} for batch in batches]
    assert names == [{"cat.jpg", "coffee.jpg", "rocket.jpg"}, {"cat.jpg", "coffee.jpg"}, {"cat.jpg", "coffee.jpg"}]
