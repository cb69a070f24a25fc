"""Packages as an installer leaves them: a module, and beside it the metadata that names its entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, entry_points: str, modules: Mapping[str, str]) -> Path:
    """Put a package into ``folder``, which is to be on the path.

    Args:
        name: the package's; its modules may have other names.
        entry_points: text of the file with them.
        modules: source by name.
    """
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    return folder


def family(name: str, value: str) -> str:
    """Return the text of an entry point that adds a family."""
    return f"[headrace.families]\n{name} = {value}\n"
