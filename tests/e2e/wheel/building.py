"""A wheel of this checkout, installed in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from tests.children import ROOT


def _loaded(name: str) -> ModuleType:
    """Import a file of ``deploy/wheel``, which is no package: Hatch runs it by its path."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(name, ROOT / "deploy/wheel" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rewriting = _loaded("rewriting")


def build(folder: Path) -> Path:
    """Build the wheel of this checkout into ``folder``."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    [wheel] = folder.glob("*.whl")
    return wheel


class Installed:
    """A virtual environment outside the checkout with the wheel, and what this one has of other packages.

    Args:
        folder: is made.
    """

    def __init__(self, folder: Path, wheel: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.bin = folder / "bin"
        self.packages = Path(self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
        self.install(wheel)
        # Last, so that what is installed here comes first.
        (self.packages / "zz_others.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def install(self, wheel: Path) -> None:
        """Install a wheel without what it depends on."""
        argv = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "--no-deps", "--no-index"]
        subprocess.run([*argv, "--quiet", "--disable-pip-version-check", str(wheel)], check=True, env=environment())

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python there; fails unless it ends well."""
        argv = [str(self.bin / "python"), *arguments]
        return subprocess.run(argv, cwd=cwd, env=environment(), check=True, capture_output=True, text=True)


def environment() -> dict[str, str]:
    """Return an environment from which nothing leads back into the checkout."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HEADRACE_", "PYTHONPATH", "VIRTUAL_ENV"))
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "HEADRACE_TUNE": "off"}
