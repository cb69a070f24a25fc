"""Prints what `locks/` pins for dependency groups, for pip's --require-hashes: python deploy/locked.py api grpc

With ``--without-torch``, PyTorch and what only its CUDA build needs are left out: those come from another index
(TORCH_INDEX_URL), whose files have other hashes. Groups after ``--not`` are left out, however they were named before.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

LOCKS = Path(__file__).resolve().parents[1] / "locks"
WITHOUT_TORCH = "--without-torch"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_OF_TORCH = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)$")


def entries(text: str) -> dict[str, str]:
    """Return the requirements of a lock file, each with its hashes, by name."""
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        name = _NAME.match(entry)
        if name is not None:
            found[name[0]] = entry
    return found


def merged(texts: Iterable[str], *, with_torch: bool = True) -> dict[str, str]:
    """Return the requirements of several lock files, by name.

    Raises:
        ValueError: two of them pin different versions of a package.
    """
    found: dict[str, str] = {}
    for text in texts:
        for name, entry in entries(text).items():
            if found.setdefault(name, entry).split()[0] != entry.split()[0]:
                raise ValueError(f"Two locks pin different versions of {name}; run `make lock`.")
    return {name: entry for name, entry in sorted(found.items()) if with_torch or not _OF_TORCH.match(name)}


def groups(arguments: list[str]) -> list[str]:
    """Return the groups that are named, without those that follow ``--not``."""
    names, _, unwanted = " ".join(arguments).partition("--not ")
    return [name for name in names.split() if name not in unwanted.split()]


def main(arguments: list[str]) -> str:
    """Return what to print for the given command line."""
    names = groups([argument for argument in arguments if argument != WITHOUT_TORCH])
    known = sorted(path.stem for path in LOCKS.glob("*.txt"))
    for name in names:
        if name not in known:
            sys.exit(f"There is no lock of a group {name!r}; there are {', '.join(known)}.")
    texts = [(LOCKS / f"{name}.txt").read_text(encoding="utf-8") for name in names]
    return "\n".join(merged(texts, with_torch=WITHOUT_TORCH not in arguments).values()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1:]))
