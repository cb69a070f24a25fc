"""`headrace new` writes a project whose tests pass at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.projects.new import INSTALL, ProjectError, class_name, steps_of, write
from tests.children import clean_environment
from tests.unit.headrace.operators import headrace

NOBODY = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("name", "expected"), [("my-model", "MyModel"), ("flowers", "Flowers"), ("a_b", "AB"), ("3d", "Model3d")]
)
def test_names_of_classes(name: str, expected: str) -> None:
    assert class_name(name) == expected


def test_its_tests_pass_at_once(tmp_path: Path) -> None:
    said = headrace(NOBODY, "new", str(tmp_path / "my-model"))
    assert said.code == 0, said.err
    assert "up --model my-model=model.py:MyModel" in said.out
    assert INSTALL not in said.out  # it runs these tests
    assert sorted(path.name for path in (tmp_path / "my-model").iterdir()) == ["README.md", "model.py", "test_model.py"]
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path / "my-model",
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout
    assert "3 passed" in tests.stdout


def test_where_pytest_is_missing_the_steps_install_it_before_they_run_it() -> None:
    place = Path("some where/my-model")
    change, install, test, *rest = steps_of(place, has_pytest=False)
    assert (change, install, test) == ("cd 'some where/my-model'", "python -m pip install pytest", "python -m pytest")
    assert steps_of(place, has_pytest=True) == [change, test, *rest]


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/model.py").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        said = headrace(NOBODY, "new", str(tmp_path / name))
        assert said.code == 2
        assert "choose another name" in said.err
    assert (tmp_path / "mine/model.py").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert len(write(tmp_path / "empty")) == 3


@pytest.mark.parametrize("name", ["a b", "é", "-", "x" * 65, "a.b", "a\0b"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProjectError):
        write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_nobody_may_write_to() -> None:
    with pytest.raises(ProjectError, match="cannot be written"):
        write(Path("/proc/headrace-project"))
