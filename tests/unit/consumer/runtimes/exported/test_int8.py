"""int8: quantised networks agree with fp32, and what cannot be quantised is a sentence."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn

from consumer.models.pictures import images, samples
from consumer.runtimes.base import CannotRun, Pixels, Runtime
from consumer.runtimes.exported import int8
from consumer.runtimes.exported.onnx_runtime import FILE, OnnxRuntime, open_session
from consumer.runtimes.exported.openvino_runtime import OpenVino
from consumer.runtimes.network import Network
from consumer.runtimes.pytorch.cpu_runner import CpuRunner
from consumer.tuning.parity import compare
from tests.unit.consumer.runtimes import networks
from tests.unit.consumer.runtimes.networks import job_of, network_of, real, shipped

pytestmark = pytest.mark.timeout(180)  # imports torch and timm and builds whole networks, beside all other tests

PHOTOS = Path(__file__).parents[5] / "examples" / "photos"
RUNTIMES: list[Runtime] = [OnnxRuntime()]
if importlib.util.find_spec("openvino"):
    RUNTIMES.append(OpenVino())


def has_vnni() -> bool:
    """Say whether this processor adds products of 8 bits up in 32, and no library is forbidden to use that."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags) and "ONEDNN_MAX_CPU_ISA" not in os.environ


@pytest.fixture(scope="module")
def imagenet() -> Network:
    return shipped("imagenet")


@pytest.fixture(scope="module")
def quantised(imagenet: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    OnnxRuntime().build(job_of(imagenet, folder, "int8"), samples.pictures(32, 224, 224)[16:])
    return folder


@pytest.mark.soak
@pytest.mark.skipif(not has_vnni(), reason="without VNNI products of 8 bits saturate; the search finds that out")
@pytest.mark.parametrize("one", RUNTIMES, ids=lambda one: one.name)
def test_what_is_trained_agrees_with_fp32_in_int8(one: Runtime, imagenet: Network, quantised: Path) -> None:
    """On pictures that it was not calibrated with, photographs among them."""
    photos = images.read_folder(PHOTOS, imagenet.preprocessing)
    rows: list[Pixels] = [*photos, *samples.pictures(12, 224, 224)]
    exact = CpuRunner(imagenet, "fp32", 8).run(rows)
    outputs = one.open(job_of(imagenet, quantised, "int8")).run(rows)
    parity = compare(exact, outputs, "int8")
    assert parity.passed, parity.reason
    assert outputs[: len(photos)].argmax(1).tolist() == exact[: len(photos)].argmax(1).tolist()


@pytest.mark.soak
def test_what_is_slower_or_saves_nothing_in_int8_stays_in_fp32(quantised: Path) -> None:
    graph = onnx.load(quantised / FILE).graph
    made = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    is_int8 = [made.get(node.input[1]) is not None for node in convolutions]
    assert is_int8[0] is False  # filters of 48 numbers
    assert all(is_int8[1:])
    assert sorted(path.name for path in quantised.iterdir()) == [FILE]


@pytest.mark.soak
def test_what_was_left_in_fp32_is_not_quantised_when_the_file_is_opened(imagenet: Network, tmp_path: Path) -> None:
    """ONNX Runtime would do so: with one step for a whole layer, half of the largest output was lost."""
    OnnxRuntime().build(job_of(imagenet, tmp_path, "fp32"), [])
    source, target = tmp_path / FILE, tmp_path / "int8.onnx"
    rows = samples.pictures(16, 224, 224)
    second = [node.name for node in onnx.load(source).graph.node if node.op_type in ("Conv", "Clip")][2:4]
    from onnxruntime import quantization

    quantization.quantize_static(
        str(source),
        str(target),
        int8._reader(quantization, rows[8:]),
        op_types_to_quantize=list(int8.QUANTISED),
        nodes_to_exclude=second,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
    )
    outputs = {
        path: np.asarray(open_session(path, 1).run(None, {"input": np.stack(rows[:8])})[0]) for path in (source, target)
    }
    assert np.abs(outputs[target] - outputs[source]).max() < 0.25 * np.abs(outputs[source]).max()


def test_squeeze_and_excitation_stays_in_fp32(tmp_path: Path) -> None:
    network = real("mobilenet_v3_small")
    OnnxRuntime().build(job_of(network, tmp_path, "int8"), samples.pictures(8, 64, 64))
    graph = onnx.load(tmp_path / FILE).graph
    kept = {one.name for one in graph.initializer}
    left = [node.name for node in graph.node if node.op_type == "Conv" and node.input[1] in kept]
    assert len(left) == 1 + 2 * 9  # the first one, and two in each of nine blocks


@pytest.mark.soak  # a nightly job runs all tests without it
@pytest.mark.parametrize("saturates", [pytest.param(False, marks=pytest.mark.soak), True])
def test_sums_do_not_overflow_where_there_is_no_vnni(
    saturates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There weights have 7 bits: of two products of 255 and 64 the sum fits into 16."""
    monkeypatch.setattr(int8, "saturates", lambda: saturates)
    OnnxRuntime().build(job_of(real("resnet18", 32), tmp_path, "int8"), samples.pictures(8, 32, 32))
    weights = [
        onnx.numpy_helper.to_array(one)
        for one in onnx.load(tmp_path / FILE).graph.initializer
        if one.data_type == onnx.TensorProto.INT8 and len(one.dims) > 1
    ]
    assert weights
    assert max(int(np.abs(one.astype(int)).max()) for one in weights) == (64 if saturates else 127)


class Means(nn.Module):
    def forward(self, x: object) -> object:
        return nn.functional.adaptive_avg_pool2d(x, 2)[:, 0].flatten(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [Means(), networks.Plain()], ids=["no weights", "first and last only"])
def test_what_has_nothing_to_quantise_is_a_sentence(module: nn.Module, tmp_path: Path) -> None:
    for one in RUNTIMES:
        with pytest.raises(CannotRun, match=r"^it cannot be quantised: it has no layers that are faster in int8\.$"):
            one.build(job_of(network_of(module), tmp_path, "int8"), samples.pictures(8, 16, 16))
