"""Whether what is installed is one version of Headrace, whole [I/O: looks at files, imports nothing]."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

from shared.modules import PREFIX, ROOT
from shared.version import __version__

NAME: Final = "headrace"
_TODO: Final = "run `pip uninstall -y headrace` until it finds none, and install it again"
_MOST_NAMED: Final = 3


def problem(package: Path, version: str) -> str | None:
    """Say in one sentence what is wrong with an installed package, and what to do; None where nothing is.

    Args:
        package: its folder, beside which its metadata lies.
        version: what its code says.
    """
    found = [one for one in distributions(name=NAME, path=[str(package.parent)]) if _is_wheel(one)]
    versions = sorted({one.version for one in found})
    if len(found) > 1:
        lie = f"versions {' and '.join(versions)} lie" if len(versions) > 1 else f"version {versions[0]} lies twice"
        return f"Two installations of Headrace are mixed in {package.parent}: {lie} over each other; {_TODO}."
    if not found:
        return f"Headrace in {package} has no metadata of an installation: files were copied or removed; {_TODO}."
    if found[0].version != version:
        return (
            f"Headrace in {package} is mixed: its files are of version {version}, and its metadata of "
            f"{found[0].version}; {_TODO}."
        )
    missing, strange = _compared(found[0], package)
    if missing or strange:
        what = [f"{_named(missing)} missing"] if missing else []
        what += [f"{_named(strange)} of another version"] if strange else []
        return f"Headrace in {package} is not whole: {', and '.join(what)}; {_TODO}."
    return None


def own_problem() -> str | None:
    """Return the problem of what runs here; None in a checkout, which is not installed."""
    return problem(ROOT.parent, __version__) if PREFIX else None


def described() -> str:
    """Say which version runs, and from where."""
    python = ".".join(map(str, sys.version_info[:3]))
    where = f"installed in {ROOT.parent}" if PREFIX else f"from the checkout {ROOT}"
    return f"headrace {__version__}, {where}, Python {python}"


def _is_wheel(found: Distribution) -> bool:
    return found.read_text("METADATA") is not None


def _compared(found: Distribution, package: Path) -> tuple[list[str], list[str]]:
    """Return the modules that should be there and are not, and those that should not."""
    record = found.read_text("RECORD")
    if record is None:  # another installer than pip
        return [], []
    listed = {line.rpartition(",")[0].rpartition(",")[0].strip('"') for line in record.splitlines()}
    wanted = {name for name in listed if name.startswith(f"{package.name}/") and name.endswith(".py")}
    there = {path.relative_to(package.parent).as_posix() for path in package.rglob("*.py")}
    return sorted(wanted - there), sorted(there - wanted)


def _named(names: list[str]) -> str:
    """Name some of them, with the verb behind."""
    shown = ", ".join(names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{shown} and {more} more are" if more > 0 else f"{shown} {'is' if len(names) == 1 else 'are'}"
