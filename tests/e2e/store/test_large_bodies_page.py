"""The program of docs/large-bodies.md against a running stack."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import ROOT
from tests.e2e.store.site import Site

PAGE = (ROOT / "docs/large-bodies.md").read_text(encoding="utf-8")


@pytest.fixture
def site(valkey_url: str, model_name: str, tmp_path: Path) -> Iterator[Site]:
    made = Site(valkey_url, model_name, tmp_path, MAX_SENDING_BYTES=str(1 << 30))
    yield made
    made.close()


def test_the_program_of_the_page_works(site: Site) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    program = program.replace("http://127.0.0.1:8000", site.stack.url).replace("models/echo", f"models/{site.model}")
    program = program.replace("bytes(20_000_000)", "bytes(17_000_000)")  # beyond the limit of a request, and no more
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "17000000 bytes came back\n"
    assert site.objects("bodies") == []


def test_the_page_names_every_setting_of_references() -> None:
    for name in ("ORIGINS", "FOLDERS", "BUCKETS"):
        assert f"HEADRACE_REFERENCE_{name}" in PAGE
