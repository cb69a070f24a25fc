"""The family of docs/models.md that a package adds, beside packages that fail, in one stack of `headrace up`."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import packages
from tests.children import ROOT
from tests.e2e.stack import call
from tests.unit.headrace.stacks import Running, own_stack

PAGE = (ROOT / "docs/models.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## A family in a package")[2].partition("\n## ")[0]
TABLES = """
[models.raises]
family = "raises"

[models.number]
family = "number"

[models.elsewhere]
family = "of_another_image"

[models.echo]
family = "echo"
"""
SERVED = "double,raises,number,echo"

pytestmark = pytest.mark.timeout(180)


def on_the_page(language: str, name: str) -> str:
    """Return a file that the section shows."""
    [text] = re.findall(rf"```{language}\n# {name}\n(.*?)```", SECTION, re.DOTALL)
    return str(text)


def settings(folder: Path, models: str) -> dict[str, str]:
    """Return the settings of a stack that sees three packages."""
    project = tomllib.loads(on_the_page("toml", "pyproject.toml"))["project"]
    [(family, value)] = project["entry-points"]["headrace.families"].items()
    module = {"headrace_scales": on_the_page("python", "headrace_scales.py")}
    site = folder / "site"
    packages.install(site, project["name"], packages.family(family, value), module)
    raising = "import threading\nthreading.Thread(target=print, daemon=True).start()\nraise SystemExit('no licence')\n"
    packages.install(site, "raises", packages.family("raises", "raises_at_once:FAMILY"), {"raises_at_once": raising})
    packages.install(site, "number", packages.family("number", "a_number:FAMILY"), {"a_number": "FAMILY = 5\n"})
    (folder / "models.toml").write_text(on_the_page("toml", "models.toml") + TABLES)
    return {**own_stack(folder, models), "PYTHONPATH": f"{ROOT}:{site}", "HEADRACE_BUCKETS": "1,2"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All models whose packages are installed, side by side."""
    environment = settings(tmp_path_factory.mktemp("packages"), SERVED)
    with Running([sys.executable, "-m", "headrace", "up"], environment) as running:
        running.until(r"Ctrl-C stops everything")
        yield running
        running.signal(signal.SIGTERM)
        assert running.end() == 0, running.output


def url(stack: Running) -> str:
    """Return the front end's."""
    [found] = re.findall(r"API +(http://\S+)", stack.output)
    return str(found)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_what_the_page_asks_is_answered_as_the_page_says(stack: Running) -> None:
    [(command, answer)] = re.findall(r"^\$ (curl .*)\n(\{.*\})$", SECTION, re.MULTILINE)
    line = shlex.split(command.replace("http://127.0.0.1:8000", url(stack)))
    said = subprocess.run([*line, "--silent", "--max-time", "20"], capture_output=True, check=True, text=True).stdout
    assert json.loads(said)["outputs"] == json.loads(answer)["outputs"]
    assert call(f"{url(stack)}/v1/models/double").body["family"] == "scales"


def test_what_a_package_raises_or_gives_wrongly_is_its_models_trouble_alone(stack: Running) -> None:
    assert "Model raises cannot be loaded: importing family 'raises' of package raises failed: " in stack.output
    assert "it called sys.exit('no licence')." in stack.output
    assert "Model number cannot be loaded: 'a_number:FAMILY' of package number must be a shared." in stack.output
    ready = {one["name"] for one in call(f"{url(stack)}/readyz").body["models"] if one["ready"]}
    assert ready == {"double", "echo"}
    answer = call(f"{url(stack)}/v1/models/echo/predict", b"hello", "application/octet-stream")
    assert answer.status == 200


@pytest.mark.soak
def test_serving_a_family_that_is_not_installed_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with Running([sys.executable, "-m", "headrace", "up"], settings(tmp_path, "echo,elsewhere")) as running:
        assert running.end() == 2
        [line] = running.lines
        assert "models.elsewhere.family must be one of echo, " in line
        assert "not 'of_another_image'." in line
