"""Families that installed packages add: whatever they raise or give, the model that names one says it in a sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.models.base import Model
from consumer.models.families import build, find
from consumer.models.load_errors import ModelCannotLoad
from shared.model_config import ModelConfig
from tests import packages
from tests.children import ROOT, clean_environment
from tests.unit.consumer.parts import Toy

HEAD = "from shared.families import Family\n"
TOY = HEAD + (
    "from tests.unit.consumer.parts import Toy\n"
    "FAMILY = Family('acme_models:build', {'weights': 'the name of a bird'}, 'torch')\n"
    "def build(config, threads):\n"
    "    toy = Toy()\n"
    "    toy.given = config.options, config.weights, threads\n"
    "    return toy\n"
)
CONFIG = ModelConfig("acme", weights="wren", options={"size": 3})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with packages, whose modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    find.cache_clear()
    yield tmp_path
    find.cache_clear()
    sys.modules.pop("acme_models", None)


def install(site: Path, source: str, name: str = "acme-models", value: str = "acme_models:FAMILY") -> None:
    packages.install(site, name, packages.family("acme", value), {"acme_models": source})


def test_a_family_of_a_package_makes_models(site: Path) -> None:
    install(site, TOY)
    model: Model = build("mine", CONFIG, 2)
    assert isinstance(model, Toy)
    assert vars(model)["given"] == ({"size": 3}, "wren", 2)
    assert (find("acme").library, find("acme").is_checked) == ("torch", True)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("1 / 0\n", "importing family 'acme' of package acme-models failed: ZeroDivisionError: division by zero."),
        ("import sys\nsys.exit(3)\n", "importing family 'acme' of package acme-models failed: it called sys.exit(3)."),
        ("import absent_one\n", "package acme-models failed: ModuleNotFoundError: No module named 'absent_one'."),
        ("", "package acme-models failed: AttributeError: module 'acme_models' has no attribute 'FAMILY'."),
        ("FAMILY = 5\n", "of package acme-models must be a shared.families.Family, but it is a int."),
        (HEAD + "FAMILY = Family\n", "must be a shared.families.Family, but it is a type."),
        (HEAD + "FAMILY = Family(5)\n", "failed: a Family has build, a text such as 'package.module:function'"),
        (HEAD + "FAMILY = Family('acme_models')\n", "entry must read 'package.module:factory'"),
        (HEAD + "FAMILY = Family('acme_models:build')\n", "acme_models.py) has no 'build'"),
        (HEAD + "FAMILY = Family('absent_one:build')\n", "there is no module 'absent_one'"),
        (HEAD + "FAMILY = Family('acme_models:build')\nbuild = 5\n", "must name a function or a class"),
        (HEAD + "FAMILY = Family('builtins:dict')\n", "builtins:dict failed: TypeError"),
        (HEAD + "FAMILY = Family('builtins:print')\n", "print must return an instance of headrace.model.Model"),
        (TOY.replace("'weights':", "'labels':"), "mine.labels is missing: family 'acme' needs the name of a bird."),
        (TOY.replace("'weights':", "3:"), "failed: a Family has build"),
    ],
)  # fmt: skip
def test_what_a_package_raises_or_gives_wrongly_is_a_sentence(site: Path, source: str, expected: str) -> None:
    install(site, source)
    with pytest.raises(ModelCannotLoad, match="Model mine cannot be loaded: ") as caught:
        build("mine", CONFIG)
    assert expected in str(caught.value)
    assert isinstance(build("other", ModelConfig("echo")), Model)


def test_a_package_that_forks_while_it_is_imported_does_not_come_back_twice(tmp_path: Path) -> None:
    """A second consumer, over the sockets of the first, would answer its requests, too."""
    source = "import os\nos.close(1)\nchild = os.fork()\nif child: os.waitpid(child, 0)\n1 / 0\n"
    install(tmp_path, source)
    code = (
        "from consumer.fork_guard import watch_forks\nfrom consumer.models.families import build\n"
        "from shared.model_config import ModelConfig\nfrom shared.process import standard_streams\n"
        "standard_streams.secure()\nwatch_forks()\n"
        "try:\n    build('mine', ModelConfig('acme'))\nexcept ValueError:\n    print('came back', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=f"{ROOT}:{tmp_path}"),
        check=True,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.stdout == "came back\n"


def test_two_packages_that_add_the_same_family_are_named(site: Path) -> None:
    install(site, TOY)
    install(site, TOY, "other-models")
    with pytest.raises(ModelCannotLoad, match="the packages acme-models and other-models both add a family 'acme'"):
        build("mine", CONFIG)


def test_a_package_cannot_take_the_place_of_ours(site: Path) -> None:
    packages.install(site, "acme-models", packages.family("echo", "acme_models:FAMILY"), {"acme_models": "1 / 0\n"})
    assert type(build("mine", ModelConfig("echo"))).__name__ == "Echo"
