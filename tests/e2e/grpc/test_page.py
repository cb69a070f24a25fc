"""The example of docs/grpc.md against a running stack."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.children import ROOT

from . import calls
from .site import ECHO, Site

_PAGE = (ROOT / "docs" / "grpc.md").read_text(encoding="utf-8")


def test_the_example_runs(served: Site) -> None:
    [example] = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    here = example.replace("127.0.0.1:8001", served.target).replace('"echo"', f'"{ECHO}"')
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.returncode) == ("[[1 2 3]]\n", 0), done.stderr


def test_every_method_that_the_page_names_answers(served: Site) -> None:
    [table] = re.findall(r"\| method .*?\n\n", _PAGE, re.DOTALL)
    methods = set(re.findall(r"`([A-Z]\w+)`", table)) - {"UNIMPLEMENTED"}
    assert len(methods) == 10
    for method in methods:
        code, _ = calls.status(served.target, b"", method)
        assert code != "UNIMPLEMENTED", method
