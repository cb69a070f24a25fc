"""Two versions of Headrace over each other are told apart from one that is whole."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from headrace.checking.installation import described, own_problem, problem
from shared.version import __version__

FILES = ("__init__.py", "_internal/shared/version.py")


def _install(folder: Path, version: str, files: tuple[str, ...] = FILES) -> Path:
    package, metadata = folder / "headrace", folder / f"headrace-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.4\nName: headrace\nVersion: {version}\n")
    lines = []
    for name in files:
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {version}\n")
        digest = urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
        lines.append(f"headrace/{name},sha256={digest},{path.stat().st_size}\n")
    (metadata / "RECORD").write_text("".join([*lines, f"{metadata.name}/RECORD,,\n"]))
    return package


def test_one_version_is_well(tmp_path: Path) -> None:
    assert problem(_install(tmp_path, "1.0"), "1.0") is None


def test_two_versions_over_each_other(tmp_path: Path) -> None:
    _install(tmp_path, "1.0")
    told = problem(_install(tmp_path, "1.1"), "1.1")
    assert told is not None
    assert "versions 1.0 and 1.1 lie over each other" in told
    assert "pip uninstall" in told
    assert told.count(". ") == 0  # one sentence


def test_files_of_one_version_with_metadata_of_another(tmp_path: Path) -> None:
    told = problem(_install(tmp_path, "1.0"), "1.1")
    assert told is not None
    assert "its files are of version 1.1, and its metadata of 1.0" in told


def test_a_file_that_another_version_left(tmp_path: Path) -> None:
    package = _install(tmp_path, "1.0")
    (package / "older.py").write_text("")
    told = problem(package, "1.0")
    assert told is not None
    assert "headrace/older.py is of another version" in told


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    package = _install(tmp_path, "1.0")
    (package / "_internal/shared/version.py").unlink()
    told = problem(package, "1.0")
    assert told is not None
    assert "headrace/_internal/shared/version.py is missing" in told


def test_no_metadata_at_all(tmp_path: Path) -> None:
    package = tmp_path / "headrace"
    package.mkdir()
    told = problem(package, "1.0")
    assert told is not None
    assert "no metadata" in told


@pytest.mark.parametrize("said", [described()])
def test_a_checkout_is_not_installed(said: str) -> None:
    assert own_problem() is None
    assert said.startswith(f"headrace {__version__}, from the checkout ")
