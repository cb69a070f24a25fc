"""What an archive's YAML file says of batches and workers, in Headrace's words [I/O].

https://github.com/pytorch/serve/blob/master/docs/configuration.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import files
from shared.settings import MAX_BATCH_CEILING, MOST_CONSUMERS

from .archive import ArchiveRefused
from .manifest import ModelOfManifest

MOST_BYTES = 1 << 20
MOST_WINDOW_MS = 60_000


@dataclass(frozen=True, slots=True)
class Serving:
    """Keys of a model's table; None leaves one out.

    Attributes:
        max_batch: ``batchSize``.
        window_ms: ``maxBatchDelay``.
        consumers: ``minWorkers``.
    """

    max_batch: int | None = None
    window_ms: int | None = None
    consumers: int | None = None


def document(folder: Path, model: ModelOfManifest) -> dict[str, Any]:
    """Return all that the YAML file of an archive says; nothing where it has none.

    Raises:
        ArchiveRefused: it cannot be read, or PyYAML is not installed.
    """
    if model.config_file is None:
        return {}
    try:
        import yaml
    except ModuleNotFoundError:
        raise ArchiveRefused(f"{model.config_file} needs PyYAML: pip install pyyaml") from None
    try:
        found = yaml.safe_load(files.read_text(folder / model.config_file, MOST_BYTES))
    except (files.FileRefused, yaml.YAMLError, RecursionError, ValueError) as error:
        why = " ".join(str(error).split())[:300]
        raise ArchiveRefused(f"{model.config_file} cannot be read: {why}.") from None
    return found if isinstance(found, dict) else {}


def read(folder: Path, model: ModelOfManifest) -> Serving:
    """Return what an archive says of batches and workers.

    Raises:
        ArchiveRefused: as :func:`document`, or a number is none.
    """
    found, name = document(folder, model), str(model.config_file)
    return Serving(
        _whole(found, "batchSize", 1, MAX_BATCH_CEILING, name),
        _whole(found, "maxBatchDelay", 0, MOST_WINDOW_MS, name),
        _whole(found, "minWorkers", 0, MOST_CONSUMERS, name),
    )


def _whole(found: dict[str, Any], key: str, least: int, most: int, name: str) -> int | None:
    value = found.get(key)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise ArchiveRefused(f"{name}: {key} must be a whole number from {least} to {most}, not {str(value)[:80]}.")
    return value
