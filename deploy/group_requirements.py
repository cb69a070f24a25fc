"""Prints the requirements of dependency groups of pyproject.toml, for an image with pins of others.

An image that installed from pyproject.toml itself would install everything again after any change to that file; what
this prints changes only with the dependencies. The other images install what `locked.py` prints. The wheel makes its
extras of the groups.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any


def requirements(groups: dict[str, list[Any]], name: str) -> list[str]:
    """Return the requirements of group ``name``, those of the groups it includes first (PEP 735)."""
    found: list[str] = []
    for entry in groups[name]:
        found += [entry] if isinstance(entry, str) else requirements(groups, entry["include-group"])
    return found


if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    for group in sys.argv[1:]:
        print("\n".join(requirements(project["dependency-groups"], group)))
