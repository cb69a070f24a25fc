"""The programs that `make bench` measures runtimes with, briefly and for real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.children import clean_environment
from tests.perf.programs.ceiling import Ceiling
from tests.perf.report.runtime_columns import PLAIN, SIZES, Outcome
from tests.perf.sections import runtimes
from tests.perf.stack import PLAIN_TORCH

MODEL = "small"
TABLE = """\
[models.small]
family = "torchvision"
architecture = "mobilenet_v3_small"
weights = "random"
preprocessing = { resize = 64, crop = 64 }
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models file with a network that is quick for what is measured here, which is nothing."""
    path = tmp_path / "models.toml"
    path.write_text(TABLE)
    return path


@pytest.mark.soak
@pytest.mark.timeout(240)
def test_every_runtime_is_timed_and_can_be_opened_by_a_consumer(models: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.perf.programs.runtimes", MODEL, "1", str(tmp_path)],
        cwd=models.parent,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    outcome = msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Outcome)
    ran = {(one.runtime, one.precision): one for one in outcome.columns if one.rates}
    assert {(PLAIN, "fp32"), ("torch", "fp32"), ("onnxruntime", "fp32")} <= ran.keys()
    assert all(set(one.rates) == set(SIZES) for one in ran.values())
    start = runtimes.Start()
    file = {"HEADRACE_MODELS_FILE": str(models)}
    runtimes._start(MODEL, "onnxruntime", "fp32", ran["onnxruntime", "fp32"].data, start, file)
    assert start.torch == "not imported"
    made = runtimes.table(MODEL, outcome, {("onnxruntime", "fp32"): start})
    assert len(made.columns) == len(ran)
    assert [one for one in runtimes.figures(outcome) if one.limit]


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_a_model_alone_says_what_it_runs_in(models: Path, tmp_path: Path) -> None:
    settings = {**PLAIN_TORCH, "HEADRACE_MAX_BATCH": "2", "HEADRACE_DATA_DIR": str(tmp_path)}
    settings |= {"HEADRACE_MODELS_FILE": str(models)}
    with Ceiling(MODEL, 1, settings) as ceiling:
        assert ceiling.runs == "torch in fp32"
        assert ceiling.preferred in (1, 2)
        assert ceiling.rate(0.1, ceiling.preferred) > 0
        assert set(ceiling.batch_ms((1, 2), 1)) == {1, 2}
