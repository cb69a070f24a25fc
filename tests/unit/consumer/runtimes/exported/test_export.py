"""Networks as ONNX files: what is exported does the same, and what cannot be exported is served by torch."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from consumer.runtimes.base import CannotRun, Job, Runtime
from consumer.runtimes.exported import export, onnx_runtime
from consumer.runtimes.exported.onnx_runtime import FILE, OnnxRuntime
from consumer.runtimes.exported.openvino_runtime import OpenVino
from consumer.runtimes.pytorch.cpu_runner import CpuRunner
from consumer.tuning.candidates import candidates, runtime
from consumer.tuning.findings import Finding
from consumer.tuning.search import Limits, Search
from shared.state.cards import Trial
from tests.unit.consumer.runtimes import networks
from tests.unit.consumer.runtimes.networks import job_of, network_of, pictures, real

pytestmark = pytest.mark.timeout(180)  # imports torch and timm and builds whole networks, beside all other tests

EXPORTED: list[Runtime] = [OnnxRuntime()]
if importlib.util.find_spec("openvino"):
    EXPORTED.append(OpenVino())
NAMES = [one.name for one in EXPORTED]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def built(one: Runtime, job: Job) -> Any:
    one.build(job, pictures(job.network, 2) if job.network else [])
    return one.open(job)


def searched(module: nn.Module, folder: Path, asked: str = "auto") -> Finding:
    """What a search in fp32 finds for a network."""
    limits = Limits((1, 2, 8), 1, 60.0)
    search = Search(network_of(module), [], "cpu", limits, folder, lambda *_: None, time.process_time())
    offered, missing = candidates("cpu", asked, "fp32")
    for candidate, why in missing:
        search.race.out(candidate, why)
    search.run(offered, runtime("torch"))
    return search.finding(asked, "fp32")


def outcomes(finding: Finding) -> dict[str, str]:
    return {trial.runtime: trial.outcome for trial in finding.trials if isinstance(trial, Trial)}


# Between them: hardswish, squeeze and excitation, shortcuts, branches that are joined, timm's joined norms and padding
# like TensorFlow's, and attention.
ARCHITECTURES = (
    "mobilenet_v3_small",
    "timm:test_vit@160",
    "resnet18",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "timm:tf_efficientnet_lite0",
    "timm:test_convnext",
)


@pytest.mark.parametrize(
    "architecture", [*ARCHITECTURES[:2], *(pytest.param(one, marks=pytest.mark.soak) for one in ARCHITECTURES[2:])]
)
def test_what_is_exported_gives_what_torch_gives(architecture: str, tmp_path: Path) -> None:
    name, _, side = architecture.partition("@")
    network = real(name, int(side or 64))
    rows = pictures(network, 5)
    expected = CpuRunner(network, "fp32", 8).run(rows)
    job = job_of(network, tmp_path)
    EXPORTED[0].build(job, [])
    for one in EXPORTED:
        np.testing.assert_allclose(one.open(job).run(rows), expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("one", EXPORTED, ids=NAMES)
def test_a_row_does_not_depend_on_its_company(one: Runtime, tmp_path: Path) -> None:
    """Alone, among others, and in a batch that is run in parts; and outputs are not overwritten by later ones."""
    network = network_of(networks.Plain())
    rows = pictures(network, 21)
    runner = built(one, job_of(network, tmp_path, max_batch=32))
    first = runner.run(rows[:3])
    kept = first.copy()
    alone = np.concatenate([runner.run([row]) for row in rows])
    np.testing.assert_allclose(runner.run(rows), alone, atol=1e-5)
    np.testing.assert_array_equal(first, kept)
    assert runner.working_rows is None


@pytest.mark.parametrize("one", EXPORTED, ids=NAMES)
def test_rows_may_lie_anywhere(one: Runtime, tmp_path: Path) -> None:
    network = network_of(networks.Plain())
    row = pictures(network, 1)[0]
    runner = built(one, job_of(network, tmp_path))
    for other in (row[::-1][::-1], np.asfortranarray(row), np.frombuffer(row.tobytes(), np.uint8).reshape(row.shape)):
        np.testing.assert_array_equal(runner.run([other]), runner.run([row]))


def test_sizes_may_be_asked_for(tmp_path: Path) -> None:
    network = network_of(networks.Looks())
    rows = pictures(network, 3)
    outputs = built(OnnxRuntime(), job_of(network, tmp_path)).run(rows)
    np.testing.assert_allclose(outputs, CpuRunner(network, "fp32", 8).run(rows), atol=1e-5)


CANNOT: dict[type[nn.Module], str] = {
    networks.Turns: "its code looks at values",
    networks.Repeats: "its code looks at values",
    networks.Reads: "its code looks at values",
    networks.ThroughNumpy: "its code cannot be followed",
    networks.Spectrum: "it cannot be exported to ONNX: Exporting the operator 'aten::fft_fft2' to ONNX",
    networks.OwnOperator: "it cannot be exported to ONNX: .*headrace_tests::tripled",
    networks.ForThisBatch: r"what was exported cannot take a batch of [13]: ",
    networks.RowByRow: r"what was exported cannot take a batch of [13]: ",
    networks.TooDeep: r"what was exported cannot take a batch of 1: The network did not give one row of logits",
    networks.Huge: r"it cannot be exported to ONNX: its weights take 2\.4 GB, and a file holds 2\.",
}


@pytest.mark.parametrize("kind", CANNOT, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("one", EXPORTED, ids=NAMES)
def test_what_cannot_be_exported_is_a_sentence(
    kind: type[nn.Module], one: Runtime, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CannotRun, match=CANNOT[kind]) as raised:
        built(one, job_of(network_of(kind()), tmp_path))
    sentence = str(raised.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "onnxruntime_src" not in sentence  # no path of a machine where the library was compiled
    assert capfd.readouterr() == ("", "")  # and no graph of a hundred lines


DIFFERS: dict[type[nn.Module], str] = {
    networks.Noisy: "its outputs differ: ",
    networks.Ages: "its outputs differ: ",
    networks.Explodes: "outputs are not finite",
    networks.Turns: "its code looks at values",
    networks.ForThisBatch: "what was exported cannot take a batch of",
}


@pytest.mark.parametrize("kind", DIFFERS, ids=lambda kind: kind.__name__)
def test_torch_serves_what_is_not_the_same_once_exported(kind: type[nn.Module], tmp_path: Path) -> None:
    finding = searched(kind(), tmp_path)
    assert (finding.runtime, finding.precision) == ("torch", "fp32")
    told = outcomes(finding)
    assert DIFFERS[kind] in told["onnxruntime"]
    assert set(told) >= {"torch", *NAMES}


@pytest.mark.parametrize("kind", [networks.Turns, networks.Noisy])
def test_a_runtime_asked_for_by_name_that_cannot_is_a_refusal(kind: type[nn.Module], tmp_path: Path) -> None:
    finding = searched(kind(), tmp_path, asked="onnxruntime")
    assert finding.runtime == "torch"
    assert finding.refusal.startswith("onnxruntime in fp32 is not used. ")
    assert DIFFERS[kind] in finding.refusal


def damaged(kind: str, whole: bytes) -> bytes | None:
    return {
        "missing": None,
        "empty": b"",
        "text": b"not a network\n",
        "cut": whole[: len(whole) // 2],
        "mixed up": whole[: len(whole) // 3] + bytes(200) + whole[len(whole) // 3 + 200 :],
        "another network": b"\x08\x08",
    }[kind]


@pytest.mark.parametrize("one", EXPORTED, ids=NAMES)
@pytest.mark.parametrize("kind", ["missing", "empty", "text", "cut", "mixed up", "another network"])
def test_a_damaged_file_is_a_sentence(one: Runtime, kind: str, tmp_path: Path) -> None:
    job = job_of(network_of(networks.Plain()), tmp_path)
    one.build(job, [])
    content = damaged(kind, (tmp_path / FILE).read_bytes())
    (tmp_path / FILE).unlink()
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(CannotRun, match=r"cannot open the file: \S|cannot take a batch") as raised:
        one.open(job)
    sentence = str(raised.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "Exception from" not in sentence


class Without:
    """A finder for an installation without some libraries."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def take_away(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] in names]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without(*names), *sys.meta_path])


@pytest.mark.parametrize(
    ("library", "asked", "group"),
    [
        ("onnxruntime", "onnxruntime", "consumer"),
        ("openvino", "openvino", "openvino"),
        ("onnx", "onnxruntime", "consumer"),
    ],
)
def test_a_missing_library_is_a_sentence_with_its_group(
    library: str, asked: str, group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_away(monkeypatch, library)
    finding = searched(networks.Plain(), tmp_path, asked)
    assert finding.runtime == "torch"
    assert f"{library} is not installed; the dependency group `{group}` brings it." in finding.refusal


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_library_is_a_sentence(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are there, and a library of the system that it needs is not."""
    folder, entry = tmp_path / "site", tmp_path / "entry"
    (folder / name).mkdir(parents=True)
    entry.mkdir()
    text = "raise ImportError('libtbb.so.12: cannot open shared object file')"
    (folder / name / "__init__.py").write_text(text, encoding="utf-8")
    job = job_of(network_of(networks.Plain()), entry)
    runtime(name).build(job, [])
    for loaded in [one for one in sys.modules if one.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(CannotRun, match=r"cannot open the file: libtbb\.so\.12: cannot open shared object file\.$"):
        runtime(name).open(job)


def test_a_network_is_left_as_it_is(tmp_path: Path) -> None:
    network = real("timm:tf_efficientnet_lite0")
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    for bf16, prepare in enumerate((None, export.for_bf16)):
        export.to_onnx(network, tmp_path / f"{bf16}.onnx", prepare)
    for name, value in network.module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not network.module.training


def test_a_session_says_nothing_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = job_of(network_of(networks.Plain()), tmp_path)
    OnnxRuntime().build(job, [])
    session = onnx_runtime.open_session(tmp_path / FILE, 1)
    with pytest.raises(Exception, match="Got invalid dimensions"):
        session.run(None, {"input": np.zeros((1, 3, 3, 3), np.uint8)})
    assert capfd.readouterr() == ("", "")
