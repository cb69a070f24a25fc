"""torchvision and timm are imported without torch's compiler, and whoever compiles later finds the real one."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from consumer.models.vision.without_compiler import without_compiler
from tests.children import ROOT, clean_environment

UTILS = "torch._dynamo.utils"

_LOADED = """
import sys
from consumer.models.families import build
from shared.model_config import ModelConfig, Preprocessing
for family, architecture in (("timm", "test_efficientnet"), ("torchvision", "mobilenet_v3_small")):
    model = build("a", ModelConfig(family, architecture, "random", preprocessing=Preprocessing(resize=32, crop=32)))
    model.load("cpu", "fp32")
    model.run(model.sample_rows(2))
print(*sorted({"torch", "torchvision", "timm", "torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)))
import torch
from torchvision.ops import roi_align
assert isinstance(roi_align.__globals__["is_compile_supported"]("cpu"), bool)
assert torch.compiler.disable(len) is not len
print(sys.modules["torch._dynamo.utils"].__file__ is not None)
"""


@pytest.mark.soak
def test_networks_of_both_families_are_loaded_and_run_without_it() -> None:
    argv = [sys.executable, "-W", "error", "-c", _LOADED]
    done = subprocess.run(
        argv, cwd=ROOT, env=clean_environment(), check=True, capture_output=True, text=True, timeout=50
    )
    loaded, is_real = done.stdout.splitlines()
    assert loaded.split() == ["timm", "torch", "torchvision"]
    assert is_real == "True"


class Real(ModuleType):
    """Stands for the module that is imported later."""

    other = 7

    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        return device_type == "cuda"


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler has not been imported by anybody."""
    for name in ("torch._dynamo", UTILS):
        monkeypatch.delitem(sys.modules, name, raising=False)


def asked(name: str) -> Any:
    return getattr(sys.modules[UTILS], name)


@pytest.mark.usefixtures("absent")
def test_what_is_asked_later_is_answered_by_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with without_compiler():
        supported = asked("is_compile_supported")
    assert UTILS not in sys.modules
    monkeypatch.setitem(sys.modules, UTILS, Real(UTILS))
    assert (supported("cuda"), supported("cpu")) == (True, False)


@pytest.mark.usefixtures("absent")
def test_what_the_stand_in_does_not_know_comes_from_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with without_compiler():
        stand_in = sys.modules[UTILS]
        monkeypatch.setitem(sys.modules, UTILS, Real(UTILS))
        assert stand_in.other == 7
    assert isinstance(sys.modules[UTILS], Real)


@pytest.mark.usefixtures("absent")
def test_all_is_as_before_after_an_import_that_fails() -> None:
    disable = torch.compiler.disable

    def imports() -> None:
        assert torch.compiler.disable(len) is len  # type: ignore[no-untyped-call]
        assert torch.compiler.disable(recursive=False)(len) is len  # type: ignore[no-untyped-call]
        raise ImportError("broken")

    with pytest.raises(ImportError, match="broken"), without_compiler():
        imports()
    assert torch.compiler.disable is disable
    assert UTILS not in sys.modules


def test_where_it_is_there_already_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", ModuleType("torch._dynamo"))
    disable = torch.compiler.disable
    with without_compiler():
        assert torch.compiler.disable is disable
