"""The examples of a page of the documentation, run against a front end of a test."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest

from tests.children import ROOT


def examples_of(page: str) -> list[str]:
    """Return each line of the blocks ``sh``, and each block ``python``, of a page such as ``docs/rest.md``."""
    blocks = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return [line for kind, block in blocks for line in (block.splitlines() if kind == "sh" else [block])]


def run_example(example: str, port: int) -> subprocess.CompletedProcess[str]:
    """Run one; it asks the front end at this port instead of the one that the page names."""
    here = example.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    if example.startswith("import"):
        command = [sys.executable, "-c", here]
    else:
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        command = ["bash", "-euo", "pipefail", "-c", here.replace("curl ", "curl -sS --fail-with-body ")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
