"""The examples of docs/client.md against a running stack."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.children import ROOT
from tests.e2e.stack import Stack

_PAGE = (ROOT / "docs/client.md").read_text(encoding="utf-8")
_EXAMPLES = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)


@pytest.mark.parametrize("example", _EXAMPLES, ids=range(len(_EXAMPLES)))
def test_example(stack: Stack, valkey_url: str, example: str) -> None:
    here = example.replace("http://127.0.0.1:8000", stack.url)
    here = here.replace("redis://127.0.0.1:6399", valkey_url)
    here = here.replace('"imagenet"', '"client-photos"').replace('"echo"', '"client-echo"')
    here = here.replace('"smollm2"', '"client-writer"')
    done = subprocess.run([sys.executable, "-c", here], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout and not done.stderr
