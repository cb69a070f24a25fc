"""`locks/` and `constraints.txt` are one list, made by `make lock`."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import lock, locked
from deploy.group_requirements import requirements

ROOT = Path(__file__).parents[3]
LOCKS = {path.stem: locked.entries(path.read_text()) for path in sorted((ROOT / "locks").glob("*.txt"))}
GROUPS: dict[str, list[Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
MODELS = [line for line in (ROOT / lock.MODELS).read_text().splitlines() if line and not line.startswith("#")]


def _constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return lock.pins([line for line in lines if line and not line.startswith("#")])


def test_every_group_has_a_lock_or_is_part_of_dev() -> None:
    assert set(LOCKS) == set(lock.LOCKED)
    for name in set(GROUPS) - set(LOCKS):
        assert set(requirements(GROUPS, name)) <= set(requirements(GROUPS, "dev")), f"{name} needs a lock"


def test_the_locks_pin_what_the_constraints_pin() -> None:
    """Both ways: after a change of one of them, `make lock` is still to be run."""
    together = locked.merged((ROOT / "locks" / f"{name}.txt").read_text() for name in LOCKS)
    assert lock.pins(list(together.values())) == _constraints()


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_every_package_in_a_lock_has_its_hashes(name: str) -> None:
    assert LOCKS[name]
    for entry in LOCKS[name].values():
        first, *hashes = (line.strip().removesuffix(" \\") for line in entry.splitlines())
        assert Requirement(first).specifier
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first


@pytest.mark.parametrize("name", sorted(set(LOCKS) - {"lock", "audit", "site"}))
def test_a_lock_is_complete(name: str) -> None:
    """pip installs it with --no-deps, so that what is missing would be missing there, too."""
    left = [(Requirement(text), "") for text in requirements(GROUPS, name)]
    seen: set[tuple[str, str]] = set()
    while left:
        wanted, asked_by_extra = left.pop()
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": asked_by_extra}):
            continue
        package = canonicalize_name(wanted.name)
        assert package in LOCKS[name], f"{wanted} is not in locks/{name}.txt; run `make lock`"
        for extra in {"", *wanted.extras}:
            if (package, extra) not in seen:
                seen.add((package, extra))
                left += [(Requirement(text), extra) for text in distribution(package).requires or ()]


@pytest.mark.parametrize("name", sorted(lock.WITH_MODELS))
def test_packages_with_models_come_with_text(name: str) -> None:
    assert {Requirement(line).name for line in MODELS} <= set(LOCKS[name])


def test_the_front_ends_lock_has_no_pytorch() -> None:
    assert {"torch", "numpy", "pillow", "transformers"}.isdisjoint(LOCKS["api"])


def test_without_torch_nothing_of_cuda_is_left() -> None:
    complete = locked.main(["consumer", "torch", "text"])
    small = locked.main(["consumer", "torch", "text", locked.WITHOUT_TORCH])
    assert "\ntorch==" in complete
    left_out = set(locked.entries(complete)) - set(locked.entries(small))
    assert {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-bindings"} <= left_out
    assert {"timm", "numpy", "safetensors", "transformers"} <= set(locked.entries(small))


def test_groups_are_merged_and_left_out() -> None:
    assert locked.groups(["api", "grpc text", "--not", "text"]) == ["api", "grpc"]
    assert locked.main(["api", "base_of_nothing", "--not", "base_of_nothing"]) == locked.main(["api"])
    with pytest.raises(SystemExit, match="There is no lock of a group 'nonsense'; there are api, "):
        locked.main(["nonsense"])
    with pytest.raises(ValueError, match="Two locks pin different versions of one; run `make lock`"):
        locked.merged(["one==1 \\\n    --hash=sha256:a\n", "one==2\n"])


def test_what_uv_prints_is_read() -> None:
    windows = "two==2 ; sys_platform == 'win32' \\\n    --hash=sha256:b\n"
    printed = f"# a comment\none==1 \\\n    --hash=sha256:a\n{windows}Three.x==3\n"
    assert lock.pins(lock.split(printed)) == {"one": "1", "three-x": "3"}
    with pytest.raises(ValueError, match="one would need two versions"):
        lock.pins(["one==1", "one==2 ; python_full_version < '3.12'"])
    with pytest.raises(ValueError, match="one>=1 is not pinned"):
        lock.pins(["one>=1"])


@pytest.mark.parametrize("name", ["producer_api", "consumer"])
def test_images_install_nothing_without_its_hash(name: str) -> None:
    dockerfile = (ROOT / "deploy" / f"{name}.Dockerfile").read_text()
    installs = re.findall(r"pip (?:--python \S+ )?install [^&;]*", dockerfile)
    assert len(installs) >= 2
    for command in installs:
        assert "--require-hashes" in command or '--index-url "$TORCH_INDEX_URL" torch torchvision' in command
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
