"""The files of docs/testing.md, run with pytest as its reader does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.children import ROOT, clean_environment

_PAGE = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
_FILES: dict[str, str] = dict(re.findall(r"```python file=(\S+)\n(.*?)```", _PAGE, re.DOTALL))


def test_its_files_pass(tmp_path: Path) -> None:
    for name, text in _FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
