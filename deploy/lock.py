"""`make lock`: writes `locks/`, for each dependency group a file with all its packages, versions and hashes.

The versions are those of `constraints.txt`, the one list of pins. With ``--upgrade`` that list is made anew first, with
the newest versions that pyproject.toml admits. Both ask the package index; uv must be beside this Python or in PATH.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
PINS = ROOT / "constraints.txt"
MODELS = "model-packages.txt"
PYTHON = "3.11"
"""The oldest one; uv resolves for all newer ones at once."""

LOCKED = (
    *("api", "consumer", "torch", "openvino", "openvino-genai", "text", "embedded", "grpc", "s3", "tracing"),
    *("dev", "build", "pip", "lock", "audit", "site"),
)
"""Groups that are installed by their locks: by images, by `make`, by workflows. All others are parts of ``dev``."""

WITH_MODELS = {"text", "dev"}
"""Groups with which the packages of `model-packages.txt` are installed."""

ELSEWHERE = re.compile(r"sys_platform == '(win32|emscripten)'")
HEADER = "# Made by `make lock` from pyproject.toml and constraints.txt (docs/dependencies.md); do not edit it.\n"


def uv(*arguments: str) -> str:
    """Run ``uv pip compile`` for all Pythons and systems, and return the requirements that it prints."""
    beside = Path(sys.executable).with_name("uv")
    program = str(beside) if beside.exists() else shutil.which("uv")
    if program is None:
        sys.exit("There is no uv here; run `make lock`, which installs it.")
    options = ["--universal", "--python-version", PYTHON, "--no-header", "--no-annotate", "--quiet"]
    done = subprocess.run(
        [program, "pip", "compile", *options, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def split(text: str) -> list[str]:
    """Return the requirements in what uv printed, without those for systems on which Headrace does not run."""
    found = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if entry and not entry.startswith("#")]
    return [entry for entry in found if not ELSEWHERE.search(entry.partition("--hash")[0])]


def normal(name: str) -> str:
    """Return a package's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(requirements: list[str]) -> dict[str, str]:
    """Return the versions that requirements pin, by name.

    Raises:
        ValueError: a package has several, or none.
    """
    found: dict[str, str] = {}
    for entry in requirements:
        name, equals, version = entry.split()[0].partition("==")
        if not equals:
            raise ValueError(f"{entry.split()[0]} is not pinned.")
        if found.setdefault(normal(name), version) != version:
            raise ValueError(f"{name} would need two versions for different Pythons.")
    return found


def upgrade() -> None:
    """Write ``constraints.txt`` anew, below the comment that it begins with."""
    every = [part for name in LOCKED for part in ("--group", f"pyproject.toml:{name}")]
    newest = pins(split(uv("--upgrade", *every))) | pins(split(uv("--upgrade", "--no-deps", MODELS)))
    comment = [line for line in PINS.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    lines = [f"{name}=={version}" for name, version in sorted(newest.items())]
    PINS.write_text("\n".join([*comment, *lines]) + "\n", encoding="utf-8")


def lock(group: str, pinned: dict[str, str]) -> set[str]:
    """Write the lock of one group; return the names in it."""
    options = ["--generate-hashes", "-c", PINS.name]
    requirements = split(uv(*options, "--group", f"pyproject.toml:{group}"))
    if group in WITH_MODELS:
        requirements += split(uv(*options, "--no-deps", MODELS))
    found = pins(requirements)
    for name, version in found.items():
        if pinned.get(name) != version:
            sys.exit(
                f"{name} {version} of group {group} is not in constraints.txt; run `make lock UPGRADE=1`, or add it."
            )
    (LOCKS / f"{group}.txt").write_text(HEADER + "\n".join(sorted(requirements)) + "\n", encoding="utf-8")
    return set(found)


def main() -> None:
    """Write every lock."""
    if "--upgrade" in sys.argv[1:]:
        upgrade()
    pinned = pins([line for line in PINS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")])
    LOCKS.mkdir(exist_ok=True)
    used = set[str]().union(*(lock(group, pinned) for group in LOCKED))
    if unused := sorted(set(pinned) - used):
        sys.exit(f"Nothing asks for {', '.join(unused)}; remove it from constraints.txt.")
    print(f"Wrote {len(LOCKED)} locks with {len(used)} packages.")


if __name__ == "__main__":
    main()
