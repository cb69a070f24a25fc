"""What a process loads before it needs it. Starting again within a second means that nothing heavy comes along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import ROOT, clean_environment

HEAVY = ("PIL", "numpy", "onnx", "onnxruntime", "openvino", "safetensors", "timm", "torch", "torchvision")
LOADED = f"import sys; print(*(name for name in {HEAVY} if name in sys.modules))"


def loaded_by(*modules: str) -> set[str]:
    """Return the heavy libraries in a fresh process that has imported ``modules``."""
    code = "\n".join([*(f"import {module}" for module in modules), LOADED])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=50,
    )
    return set(done.stdout.split())


def test_what_is_pure_in_tuning_needs_no_library_of_numbers() -> None:
    assert loaded_by("consumer.tuning.race", "consumer.tuning.findings", "consumer.tuning.measuring") == set()


def test_a_consumer_loads_what_its_model_needs_and_not_before() -> None:
    """`echo` needs nothing, and what looks after findings and adopts them runs beside it."""
    names = ("store", "fingerprint", "tuner")
    assert (
        loaded_by("consumer.__main__", "consumer.switching.adoption", *(f"consumer.tuning.{name}" for name in names))
        == set()
    )


@pytest.mark.parametrize("module", ["consumer.tuning.candidates", "consumer.loading.network", "consumer.tune"])
def test_a_runtime_is_imported_when_it_is_opened(module: str) -> None:
    """To know which there are, none is loaded: a consumer may look for what was found without torch."""
    assert loaded_by(module) <= {"numpy", "PIL"}


@pytest.mark.parametrize("path", sorted((ROOT / "consumer" / "tuning").glob("*.py")), ids=lambda path: path.name)
def test_only_the_search_reads_arrays(path: Path) -> None:
    assert ("numpy" in path.read_text(encoding="utf-8")) == (path.name in ("search.py", "parity.py"))
