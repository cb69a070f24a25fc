"""Pages whose commands a stranger types in an empty folder, run where the wheel is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.children import ROOT

from .building import Installed, environment

PORT, METRICS = "127.0.0.1:8000", "127.0.0.1:9101"
"""Where a stack is that nobody told otherwise, as the pages have it."""


def page(name: str) -> str:
    """Return the text of a page such as ``docs/tutorial.md``."""
    return (ROOT / name).read_text(encoding="utf-8")


def files(text: str, kind: str) -> dict[str, str]:
    """Return the files that a page shows in blocks of a kind, by the paths that their first lines name."""
    return dict(re.findall(rf"```{kind}\n# ([\w./-]+\.\w+|\.gitignore)\n(.*?)```", text, re.DOTALL))


def commands(text: str) -> list[str]:
    """Return the lines of a page that one types."""
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def exchanges(text: str) -> list[tuple[str, Any]]:
    """Return each request of a page to a model, with the answer that stands below it."""
    found = re.findall(r"^\$ (curl .*)\n(\{.*\})$", text, re.MULTILINE)
    return [(command, json.loads(answer)) for command, answer in found]


def typed(installed: Installed, command: str, folder: Path, **places: str) -> subprocess.CompletedProcess[str]:
    """Run one line in ``folder``, with what is installed first on the path.

    Args:
        places: what stands for other texts there, such as ``{"127.0.0.1:8000": …}``.
    """
    for text, here in places.items():
        command = command.replace(text, here)
    paths = {"PATH": f"{installed.bin}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", command.replace("curl ", "curl --silent --show-error --max-time 20 ")],
        cwd=folder,
        env={**environment(), **paths},
        capture_output=True,
        text=True,
        check=False,
    )


def comparable(answer: Any) -> Any:
    """Leave out what is another each time."""
    if isinstance(answer, dict):
        return {name: comparable(value) for name, value in answer.items() if name not in ("id", "timing")}
    return [comparable(one) for one in answer] if isinstance(answer, list) else answer
