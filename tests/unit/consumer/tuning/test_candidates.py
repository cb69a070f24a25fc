"""Which runtimes are tried: by name, by what is installed, by device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from consumer.runtimes.pytorch.cpu_runner import CpuRunner
from consumer.tuning.candidates import BY_NAME, RUNTIMES, candidates, runtime
from shared import settings
from tests.children import ROOT, clean_environment
from tests.unit.consumer.runtimes import networks
from tests.unit.consumer.runtimes.networks import job_of, network_of, pictures, real

pytestmark = pytest.mark.timeout(240)  # one of them compiles


def test_every_name_of_the_settings_is_a_runtime() -> None:
    assert {one.name for one in RUNTIMES} == {*settings.RUNTIMES} - {"auto"}


@pytest.mark.parametrize("name", [one.name for one in RUNTIMES])
def test_a_name_brings_that_runtime_alone_or_says_what_is_missing(name: str) -> None:
    offered, missing = candidates("cpu", name, "auto")
    assert {one.name for one, _ in offered} <= {name}
    if not offered:
        assert [candidate.runtime for candidate, _ in missing] == [name]
        assert missing[0][1].endswith(".")
    if name in ("cudagraphs", "tensorrt"):
        assert missing[0][1] == f"{name} needs an NVIDIA GPU."


def test_without_a_name_those_that_cost_more_than_they_win_are_left_out() -> None:
    offered, missing = candidates("cpu", "auto", "auto")
    names = {one.name for one, _ in offered}
    assert {"torch", "onnxruntime"} <= names
    assert not names & {*BY_NAME}
    assert not any(candidate.runtime in BY_NAME for candidate, _ in missing)
    precisions = [precision for _, precision in offered]
    assert precisions == sorted(precisions, key=lambda one: {"fp32": 0, "int8": 2}.get(one, 1))


def test_without_a_compiler_compile_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert runtime("compile").missing("cpu").startswith("compile needs a C++ compiler, and none of g++, c++, clang++")
    own = tmp_path / "mine"
    own.write_text("#!/bin/sh\n", encoding="utf-8")
    own.chmod(0o755)
    monkeypatch.setenv("CXX", str(own))
    assert runtime("compile").missing("cpu") == ""


@pytest.mark.soak  # half a minute of g++
@pytest.mark.skipif(bool(runtime("compile").missing("cpu")), reason="needs a C++ compiler")
def test_what_is_compiled_gives_what_torch_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    network = network_of(networks.Plain())
    rows = pictures(network, 5)
    expected = CpuRunner(network, "fp32", 8).run(rows)
    runner = runtime("compile").open(job_of(network, tmp_path))
    for count in (5, 1, 3):
        np.testing.assert_allclose(runner.run(rows[:count]), expected[:count], atol=1e-5)


COMPILES = """
import sys
from pathlib import Path
from consumer.tuning.candidates import runtime
from tests.unit.consumer.runtimes import networks
from tests.unit.consumer.runtimes.networks import job_of, network_of
runtime("compile").open(job_of(network_of(networks.Plain()), Path(sys.argv[1])))
"""


@pytest.mark.soak
@pytest.mark.skipif(bool(runtime("compile").missing("cpu")), reason="needs a C++ compiler")
def test_what_cannot_be_compiled_is_a_sentence(tmp_path: Path) -> None:
    """The compiler that is there is none. In a process of its own, since torch keeps which one it found."""
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    limits = {"CXX": str(broken), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", COMPILES, str(tmp_path)],
        cwd=ROOT,
        env=clean_environment(**limits),
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert "CannotRun: torch.compile cannot compile it: " in done.stderr, done.stderr


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@cuda
@pytest.mark.parametrize("name", ["torch", "cudagraphs", "compile", "tensorrt"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_on_a_gpu_every_runtime_gives_what_the_processor_gives(name: str, precision: str, tmp_path: Path) -> None:
    one = runtime(name)
    if one.missing("cuda"):
        pytest.skip(one.missing("cuda"))
    network = real("resnet18")
    rows = pictures(network, 11)
    expected = CpuRunner(network, "fp32", 16).run(rows)
    job = job_of(network, tmp_path, precision, device="cuda")
    one.build(job, rows)
    runner = one.open(job)
    for count in (1, 3, 5, 8, 11, 2):
        outputs = runner.run(rows[:count])
        assert np.abs(outputs - expected[:count]).max() < 0.01 * np.abs(expected).max()
