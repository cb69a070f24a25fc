"""Names of a classifier's classes."""

from __future__ import annotations

from shared import files
from shared.files import FileRefused

IMAGENET = "imagenet-1k"


def read(source: str) -> tuple[str, ...]:
    """Return the labels that ``source`` names: ``imagenet-1k``, or a UTF-8 text file with one label a line.

    Raises:
        ValueError: the file cannot be read, or a line is empty.
    """
    if source == IMAGENET:
        # Any of torchvision's ImageNet weights carries the thousand names; nothing is downloaded to read them.
        from torchvision.models import MobileNet_V3_Small_Weights

        return tuple(MobileNet_V3_Small_Weights.IMAGENET1K_V1.meta["categories"])
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


def numbered(count: int) -> tuple[str, ...]:
    """Return stand-ins for ``count`` unnamed classes."""
    return tuple(f"class {index}" for index in range(count))
