"""The wheel is built once for each process of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.children import ROOT

from .building import Installed, build


@pytest.fixture(scope="package")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, or the one in the folder that HEADRACE_TEST_WHEEL names."""
    if folder := os.environ.get("HEADRACE_TEST_WHEEL"):
        [built] = (ROOT / folder).glob("*.whl")
        return built
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="package")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    """Where the wheel is installed beside packages of others that have the names of our folders."""
    found = Installed(tmp_path_factory.mktemp("environment") / "venv", wheel)
    for name in ("consumer", "loadgen", "producer_api", "shared"):
        (found.packages / f"{name}.py").write_text(f"raise AssertionError('{name} of somebody else was imported')\n")
    return found
