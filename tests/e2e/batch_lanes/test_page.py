"""The commands of docs/now-and-later.md against a running stack, in their order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import ROOT
from tests.e2e.batch_lanes.conftest import NIGHTLY
from tests.e2e.bulk.site import Site
from tests.helpers import eventually

PAGE = (ROOT / "docs/now-and-later.md").read_text(encoding="utf-8")
COMMANDS = list(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("page")) as running:
        running.start("echo")
        yield running


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_work(site: Site, tmp_path: Path) -> None:
    for command in COMMANDS:
        here = command.replace("http://127.0.0.1:8000", site.stack.url).replace("curl ", "curl -sS --fail-with-body ")
        here = here.replace("python -m", f"{sys.executable} -m")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", here],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HEADRACE_REDIS_URL": site.server.url},
        )
        assert done.returncode == 0, command + done.stdout + done.stderr
        if "lane set" in command:
            assert eventually(lambda: _is_known(site) or None)
    batch = json.loads((tmp_path / "batch.json").read_text())
    assert (batch["lane"], batch["deadline"] - batch["created_at"]) == (NIGHTLY, 7200.0)
    site.ended(f"/v1/models/echo/batches/{batch['id']}")
    later = json.loads((tmp_path / "later.json").read_text())
    assert eventually(lambda: site.ask("GET", f"/v1/models/echo/requests/{later['id']}").status == 200 or None)


def _is_known(site: Site) -> bool:
    asked = {"Content_Type": "application/octet-stream", "Headrace_Lane": NIGHTLY}
    return site.ask("POST", "/v1/models/echo/predict", b"x", **asked).status == 200
