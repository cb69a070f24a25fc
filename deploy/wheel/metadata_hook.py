"""Hatch calls this for the metadata of a wheel: its dependencies and extras are the groups of pyproject.toml."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

sys.path.insert(0, str(Path(__file__).parents[1]))

from group_requirements import requirements

BASE = "base"
EXTRAS = (
    "api",
    "consumer",
    "torch",
    "text",
    "openvino",
    "openvino-genai",
    "loadgen",
    "embedded",
    "client",
    "grpc",
    "s3",
    "tracing",
)
ALL = ("api", "consumer", "torch", "loadgen", "embedded", "client")
"""What `pip install 'headrace[all]'` brings: a stack on one machine. The others are for what some need."""


class Groups(MetadataHookInterface):
    """One list of each thing: a group is what an installation from a checkout takes, an extra what pip takes."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``dependencies`` and ``optional-dependencies``."""
        groups = tomllib.loads(Path(self.root, "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
        base = requirements(groups, BASE)
        extras = {name: sorted(set(requirements(groups, name)) - set(base)) for name in EXTRAS}
        metadata["dependencies"] = base
        metadata["optional-dependencies"] = {**extras, "all": [f"headrace[{','.join(ALL)}]"]}
