"""Names of a classifier's classes."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from shared import files
from shared.files import FileRefused

IMAGENET = "imagenet-1k"
_IMAGENET_CLASSES = 1000


def read(source: str) -> tuple[str, ...]:
    """Return the labels that ``source`` names: ``imagenet-1k``, or a UTF-8 text file with one label a line.

    Raises:
        ValueError: the file cannot be read, or a line is empty.
    """
    if source == IMAGENET:
        return _written_in_torchvision() or _told_by_torchvision()
    try:
        lines = files.read_text(source, files.TABLE_BYTES).splitlines()
    except FileRefused as error:
        raise ValueError(
            f"labels must be {IMAGENET!r} or a text file; {files.shown(source)} cannot be read: {error}."
        ) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise ValueError(f"line {number} of the labels file {source} is empty.")
    return tuple(line.strip() for line in lines)


def _written_in_torchvision() -> tuple[str, ...]:
    """Read the thousand names where torchvision has them written down, without importing it, and torch with it."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ValueError(f"labels = {IMAGENET!r} needs torchvision, which is not installed; name a text file instead.")
    try:
        tree = ast.parse((Path(spec.origin).parent / "models" / "_meta.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return ()
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.List)
            and len(node.value.elts) == _IMAGENET_CLASSES
        ):
            return tuple(str(name) for name in ast.literal_eval(node.value))
    return ()


def _told_by_torchvision() -> tuple[str, ...]:
    # Any of its ImageNet weights carries the names; nothing is downloaded to read them.
    from torchvision.models import MobileNet_V3_Small_Weights

    return tuple(MobileNet_V3_Small_Weights.IMAGENET1K_V1.meta["categories"])


def numbered(count: int) -> tuple[str, ...]:
    """Return stand-ins for ``count`` unnamed classes."""
    return tuple(f"class {index}" for index in range(count))
