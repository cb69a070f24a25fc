"""Steps that make a network faster: they change nothing, and only those that help are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from consumer.models import fused_layers, graph, half, images, recipe, timm_layers, torch_runner
from consumer.models.classifier import Classifier
from consumer.models.cpu_runner import STEPS, CpuRunner
from consumer.models.network import Network
from consumer.models.random_weights import calibrate, construct
from consumer.models.row_ring import RowRing
from consumer.models.timm import build_network as build_timm
from consumer.models.torchvision import build_network as build_torchvision
from consumer.notes import Notes
from shared.model_config import ModelConfig, Preprocessing
from shared.settings import RECIPE_STEPS, Settings, SettingsError

SMALL = Preprocessing(resize=64, crop=64)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network_of(architecture: str) -> Network:
    if architecture.startswith("timm:"):
        return build_timm(ModelConfig("timm", architecture[5:], "random", preprocessing=SMALL))
    return build_torchvision(ModelConfig("torchvision", architecture, "random", preprocessing=SMALL))


def small(*layers: nn.Module) -> Network:
    """A network of 8x8 pictures; its batch norms have seen some."""
    module = construct(lambda: nn.Sequential(*layers).eval())
    if list(module.parameters()):
        calibrate(module, torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    return Network(module, Preprocessing(resize=8, crop=8), tuple("abcd"))


# Between them: hardswish, squeeze and excitation, shortcuts, branches that are joined, timm's joined norms and padding
# like TensorFlow's, and attention.
ARCHITECTURES = (
    "mobilenet_v3_small",
    "resnet18",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "efficientnet_b0",
    "timm:tf_efficientnet_lite0",
    "timm:test_efficientnet",
    "timm:test_resnet",
    "timm:test_vit",
    "timm:test_convnext",
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_fp32_every_step_leaves_the_outputs_as_they_are(architecture: str) -> None:
    network = network_of(architecture)
    rows = recipe.samples_of(network, 5)
    plain = CpuRunner(network, "fp32", (), 8).run(rows)
    kept: tuple[str, ...] = ()
    for step in STEPS:
        try:
            outputs = CpuRunner(network, "fp32", (*kept, step), 8).run(rows)
        except graph.DoesNotFit:
            continue
        kept = (*kept, step)
        np.testing.assert_allclose(outputs, plain, atol=2e-4 * np.abs(plain).max(), err_msg=str(kept))
    assert "channels_last" in kept
    np.testing.assert_array_equal(CpuRunner(network, "fp32", (), 8).run(rows), plain)  # the network was left alone


@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "resnet18", "timm:tf_efficientnet_lite0"])
def test_every_step_fits_the_shipped_networks(architecture: str) -> None:
    network = network_of(architecture)
    module = recipe.transformed(network, torch.float32, STEPS)
    kinds = {type(layer) for layer in module.modules()}
    assert not kinds & {nn.Conv2d, nn.BatchNorm2d, nn.Hardswish, nn.ReLU, nn.ReLU6}
    assert fused_layers.PackedConv in kinds


def test_the_result_does_not_depend_on_the_company() -> None:
    """A row is alone in a batch, among others, and in a batch that is run in parts."""
    runner = CpuRunner(network_of("mobilenet_v3_small"), "fp32", STEPS, 4)
    rows = recipe.samples_of(network_of("mobilenet_v3_small"), 6)
    alone = np.concatenate([runner.run([row]) for row in rows])
    np.testing.assert_allclose(runner.run(rows), alone, atol=1e-4)
    np.testing.assert_allclose(runner.run(rows[:3]), alone[:3], atol=1e-4)


def test_outputs_are_not_overwritten_by_the_next_batch() -> None:
    network = small(nn.Flatten())
    runner = CpuRunner(network, "fp32", (), 2)
    first = runner.run([np.zeros((8, 8, 3), np.uint8)])
    before = first.copy()
    runner.run([np.full((8, 8, 3), 255, np.uint8)])
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("size", [7, 8, 31, 32])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_padding_like_tensorflows_becomes_constant(size: int, kernel: int, stride: int) -> None:
    from timm.layers.conv2d_same import Conv2dSame

    conv = Conv2dSame(4, 8, kernel, stride, groups=2).eval()
    x = torch.randn(2, 4, size, size + 1, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, outputs = conv(x), timm_layers.same_padded(conv, size, size + 1)(x)
    torch.testing.assert_close(outputs, expected)


def test_what_shares_a_layer_keeps_it() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.conv(self.norm(self.conv(x))) + x
            return y.relu().mean((2, 3))

    network = small(Twice())
    rows = recipe.samples_of(network, 3)
    plain = CpuRunner(network, "fp32", (), 4).run(rows)
    with pytest.raises(graph.DoesNotFit):
        CpuRunner(network, "fp32", ("fuse_conv_bn",), 4)
    with pytest.raises(graph.DoesNotFit):
        CpuRunner(network, "fp32", ("fuse_activations",), 4)
    np.testing.assert_array_equal(CpuRunner(network, "fp32", (), 4).run(rows), plain)


class Branches(nn.Module):
    """Takes another way for bright pictures: no graph can say that."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.mean() > 0 else x.amax((2, 3))


def test_a_network_that_no_step_fits_runs_plainly() -> None:
    network = small(Branches())
    rows = recipe.samples_of(network)
    with pytest.raises(graph.DoesNotFit):
        graph.fuse_activations(graph.traced(network.module))
    runner, steps = torch_runner.make(network, "cpu", "fp32", 8, Notes())
    assert set(steps) <= {"channels_last"}
    np.testing.assert_allclose(runner.run(rows), CpuRunner(network, "fp32", (), 8).run(rows), rtol=1e-5)


class Pretending:
    """Outputs as told, and takes its time in steps of a clock that the test owns."""

    ring: RowRing | None = None
    busy_s: float | None = None
    padded_rows: int = 0
    working_rows: int | None = None

    def __init__(self, clock: list[float], takes_s: float, error: float = 0.0) -> None:
        self.clock, self.takes_s, self.error = clock, takes_s, error

    def run(self, rows: Sequence[Any]) -> Any:
        self.clock[0] += self.takes_s
        return np.array([[1.0, 2.0, 3.0 + self.error]] * len(rows), np.float32)


def chosen(
    monkeypatch: pytest.MonkeyPatch,
    effects: dict[str, tuple[float, float]],
    likely: tuple[str, ...] = (),
    made: list[tuple[str, ...]] | None = None,
    plain_s: float = math.inf,
) -> tuple[str, ...]:
    """Choose among steps that change the time by a factor and the outputs by an error; ``made`` takes down each try."""
    clock = [0.0]
    made = [] if made is None else made
    monkeypatch.setattr(recipe, "perf_counter", lambda: clock[0])

    def make(steps: tuple[str, ...]) -> Pretending:
        made.append(steps)
        takes_s, error = 0.01, 0.0
        for step in steps:
            if step == "broken":
                raise RuntimeError("no such instruction")
            takes_s, error = takes_s * effects[step][0], error + effects[step][1]
        return Pretending(clock, takes_s, error)

    reference = make(()).run([1])
    made.clear()
    return recipe.choose(tuple(effects), make, [1], reference, "fp32", likely, plain_s)[1]


def test_a_step_is_kept_if_it_is_faster_and_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    effects = {"good": (0.8, 0.0), "wrong": (0.1, 1.0), "slow": (1.2, 0.0), "idle": (1.0, 0.0), "fine": (0.9, 1e-5)}
    assert chosen(monkeypatch, effects) == ("good", "fine")


def test_what_helped_in_another_precision_is_tried_first_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, ...]] = []
    effects = {"good": (0.8, 0.0), "idle": (1.0, 0.0), "fine": (0.9, 0.0)}
    assert chosen(monkeypatch, effects, ("good", "fine"), made) == ("good", "fine")
    assert made == [(), ("good", "fine")]


def test_what_is_twice_as_slow_is_given_up_at_its_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, runs = [0.0], list[str]()
    monkeypatch.setattr(recipe, "perf_counter", lambda: clock[0])

    class Counted(Pretending):
        name = ""

        def run(self, rows: Sequence[Any]) -> Any:
            runs.append(self.name)
            return super().run(rows)

    def make(steps: tuple[str, ...]) -> Counted:
        runner = Counted(clock, {"slow": 2.1, "idle": 1.9}.get("".join(steps), 1.0))
        runner.name = "".join(steps)
        return runner

    assert recipe.choose(("slow", "idle"), make, [1], make(()).run([1]), "fp32")[1] == ()
    assert runs.count("slow") == 1
    assert runs.count("idle") > 1


def test_no_step_makes_up_for_a_precision_that_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, ...]] = []
    assert chosen(monkeypatch, {"good": (0.5, 0.0)}, made=made, plain_s=0.004) == ()
    assert made == [()]
    assert chosen(monkeypatch, {"good": (0.5, 0.0)}, plain_s=0.006) == ("good",)


def test_the_search_for_steps_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "SEARCH_S", 0.05)
    made: list[tuple[str, ...]] = []
    effects = {"good": (0.9, 0.0), "late": (0.9, 0.0), "later": (0.9, 0.0)}
    assert chosen(monkeypatch, effects, made=made) == ("good",)
    assert made == [(), ("good",)]


def test_on_a_processor_all_steps_are_tried_together_first(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, ...]] = []

    def choose(offered: Any, make: Any, rows: Any, reference: Any, precision: str, likely: Any, plain_s: float) -> Any:
        tried.append(likely)
        return make(()), ()

    monkeypatch.setattr(recipe, "choose", choose)
    torch_runner.make(network_of("mobilenet_v3_small"), "cpu", "fp32", 8, Notes())
    torch_runner.make(network_of("mobilenet_v3_small"), "cpu", "fp32", 8, Notes(), frozenset(("fuse_conv_bn",)))
    assert tried == [STEPS, ("fuse_conv_bn",)]


@pytest.mark.parametrize("other", [(1.5, 0.0), (0.1, 1.0)], ids=["slower", "wrong"])
def test_what_does_not_help_here_is_searched_for_anew(
    monkeypatch: pytest.MonkeyPatch, other: tuple[float, float]
) -> None:
    assert chosen(monkeypatch, {"other": other, "good": (0.8, 0.0)}, ("other", "good")) == ("good",)


def test_a_step_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, {"broken": (1.0, 0.0), "good": (0.8, 0.0)}) == ("good",)


def test_without_any_step_errors_are_told() -> None:
    def make(steps: tuple[str, ...]) -> Any:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        recipe.choose(("a",), make, [1], np.zeros((1, 3)), "fp32")


@pytest.mark.parametrize("known", [["fuse_conv_bn"], []])
def test_a_recipe_of_an_earlier_start_is_used_without_measuring(
    known: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, notes = network_of("mobilenet_v3_small"), Notes()
    notes.put(f"recipe cpu fp32 of {'+'.join(STEPS)}", known)
    monkeypatch.setattr(recipe, "choose", None)
    runner, steps = torch_runner.make(network, "cpu", "fp32", 8, notes)
    assert steps == tuple(known)
    assert runner.run(recipe.samples_of(network, 2)).shape == (2, 1000)


@pytest.mark.parametrize("known", [["nonsense"], "fuse_conv_bn", 7, [["a"]], [1], None])
def test_nonsense_in_the_notes_is_measured_anew(known: Any) -> None:
    network, notes = small(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), Notes()
    notes.put(f"recipe cpu fp32 of {'+'.join(STEPS)}", known)
    _, steps = torch_runner.make(network, "cpu", "fp32", 8, notes)
    assert notes.get(f"recipe cpu fp32 of {'+'.join(STEPS)}") == list(steps)


def test_a_recipe_that_became_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    network, notes = network_of("mobilenet_v3_small"), Notes()
    notes.put(f"recipe cpu fp32 of {'+'.join(STEPS)}", ["fold_scale"])
    monkeypatch.setattr(graph, "fold_scale", lambda module, scale: module)  # the scale is lost
    _, steps = torch_runner.make(network, "cpu", "fp32", 8, notes)
    assert "fold_scale" not in steps


@pytest.mark.parametrize(
    ("setting", "most"),
    [("plain", set[str]()), ("channels_last,fuse_conv_bn", {"channels_last", "fuse_conv_bn"})],
)
def test_steps_can_be_switched_off(setting: str, most: set[str]) -> None:
    allowed = Settings.from_env({"HEADRACE_RECIPE": setting}).recipe_steps
    config = ModelConfig("torchvision", "mobilenet_v3_small", "random", preprocessing=SMALL)
    model = Classifier(config, build_torchvision)
    model.tune(Notes(), allowed)
    model.load("cpu", "fp32")
    assert set(model.recipe()) <= most


def test_every_step_has_a_name_in_the_settings() -> None:
    from consumer.models.cuda_runner import STEPS as CUDA_STEPS

    assert set(RECIPE_STEPS) == {*STEPS, *CUDA_STEPS}
    assert Settings().recipe_steps is None
    with pytest.raises(SettingsError, match="HEADRACE_RECIPE must be auto, plain, or some of channels_last"):
        Settings.from_env({"HEADRACE_RECIPE": "channels_last,magic"})


def test_biases_make_up_for_rounded_weights() -> None:
    """What a channel puts out on average stays what it was, although each weight is rounded to 8 bits."""
    generator = torch.Generator().manual_seed(4)
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator))
    pictures = torch.rand(4, 8, 12, 12, generator=generator)
    with torch.no_grad():
        exact = network(pictures).mean((0, 2, 3))
        plain = half.converted(half.copied(network), torch.bfloat16).float()(pictures).mean((0, 2, 3))
        corrected = half.converted(half.copied(network), torch.bfloat16, pictures).float()(pictures).mean((0, 2, 3))
    assert (corrected - exact).abs().mean() < (plain - exact).abs().mean() / 2


def test_photographs_of_the_user_come_first_among_the_samples(tmp_path: Path) -> None:
    photos = Path(__file__).parents[4] / "examples" / "photos"
    config = ModelConfig("torchvision", "squeezenet1_1", "random", preprocessing=SMALL, samples=str(photos))
    model = Classifier(config, build_torchvision)
    model.load("cpu", "fp32")
    rows = model.sample_rows(5)
    expected = images.decode((photos / "cat.jpg").read_bytes(), 64, 64, "bilinear")
    np.testing.assert_array_equal(rows[0], expected)
    assert len(rows) == 5
    assert len(model.sample_rows(2)) == 2
    for folder, message in (("absent", "cannot be read"), (".", "holds no .jpeg, .jpg, .png, .webp file")):
        with pytest.raises(ValueError, match=message):
            Classifier(replace_samples(config, tmp_path / folder), build_torchvision).load("cpu", "fp32")
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(ValueError, match=r"the sample .*text\.jpg is no picture"):
        Classifier(replace_samples(config, tmp_path), build_torchvision).load("cpu", "fp32")


def replace_samples(config: ModelConfig, folder: Path) -> ModelConfig:
    return msgspec.structs.replace(config, samples=str(folder))


def test_a_network_that_gives_no_row_per_picture_is_told() -> None:
    network = replace(small(nn.Flatten()), module=nn.Flatten(0))
    with pytest.raises(RuntimeError, match="did not give one row of logits per picture"):
        CpuRunner(network, "fp32", (), 4).run(recipe.samples_of(network, 2))


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@cuda
@pytest.mark.parametrize("steps", [(), ("channels_last", "fuse_conv_bn", "fold_scale", "cuda_graph")])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_on_a_gpu_padding_and_graphs_change_nothing(steps: tuple[str, ...], precision: str) -> None:
    from consumer.models.cuda_runner import CudaRunner

    network = network_of("resnet18")
    rows = recipe.samples_of(network, 11)
    expected = CpuRunner(network, "fp32", (), 16).run(rows)
    runner = CudaRunner(network, precision, steps, 8)
    for count in (1, 3, 5, 8, 11, 2):
        outputs = runner.run(rows[:count])
        assert np.abs(outputs - expected[:count]).max() < 0.01 * np.abs(expected).max()
    assert runner.busy_s
    assert runner.padded_rows == 1 + 3 + 1  # 3 in 4, 5 in 8, and 11 in 8 and 4
    assert runner.ring is not None
    placed = [runner.ring.place(row) for row in rows]
    np.testing.assert_array_equal(runner.run(placed), runner.run(rows))  # from the ring, and from a copy


@cuda
def test_on_a_gpu_steps_are_chosen() -> None:
    runner, steps = torch_runner.make(network_of("resnet18"), "cuda", "fp16", 8, Notes())
    assert "cuda_graph" in steps
    assert runner.run(recipe.samples_of(network_of("resnet18"), 3)).shape == (3, 1000)
