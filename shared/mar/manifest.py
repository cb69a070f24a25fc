"""``MAR-INF/MANIFEST.json``: what an archive says of its model [I/O].

https://github.com/pytorch/serve/tree/master/model-archiver
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from shared import files

from .archive import ArchiveRefused, is_inside

PLACE = "MAR-INF/MANIFEST.json"
MOST_BYTES = 1 << 20
DEFAULT_HANDLERS = (
    "base_handler",
    "image_classifier",
    "image_segmenter",
    "object_detector",
    "text_classifier",
)
"""Handlers that an archive names without having them."""


class ModelOfManifest(msgspec.Struct, frozen=True):
    """What a manifest says of the model; names of files are those in the archive's folder.

    Attributes:
        handler: a file, one and ``:function``, or one of ``DEFAULT_HANDLERS``.
        serialized_file: the weights: a state dict for ``model_file``, or TorchScript.
        config_file: YAML, with ``batchSize`` and such.
    """

    handler: str
    model_name: str = msgspec.field(name="modelName", default="")
    model_version: str = msgspec.field(name="modelVersion", default="1.0")
    serialized_file: str | None = msgspec.field(name="serializedFile", default=None)
    model_file: str | None = msgspec.field(name="modelFile", default=None)
    requirements_file: str | None = msgspec.field(name="requirementsFile", default=None)
    config_file: str | None = msgspec.field(name="configFile", default=None)

    def handler_file(self) -> str:
        """Return the name of the handler's file, if it has one."""
        name = self.handler.partition(":")[0].rpartition("/")[2]
        return name if name.endswith(".py") else f"{name}.py"

    def function(self) -> str:
        """Return the name of the function that the handler names; empty for none."""
        return self.handler.partition(":")[2]


class Manifest(msgspec.Struct, frozen=True):
    """A manifest.

    Attributes:
        document: all of it, as handlers get it.
    """

    model: ModelOfManifest
    document: dict[str, Any]


def read(folder: Path) -> Manifest:
    """Read the manifest of an unpacked archive, and check that what it names is there.

    Raises:
        ArchiveRefused: there is none, it is none, or files that it names are missing.
    """
    path, where = folder / PLACE, f"{files.shown(folder)}/{PLACE}"
    if not path.exists():
        raise ArchiveRefused(f"{files.shown(folder)} is no model archive: it has no {PLACE}.")
    try:
        document = msgspec.json.decode(files.read(path, MOST_BYTES))
        model = msgspec.convert(document, _Document).model
    except files.FileRefused as error:
        raise ArchiveRefused(f"{where} cannot be read: {error}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArchiveRefused(f"{where} is no manifest: {error}.") from None
    check_files(folder, model)
    return Manifest(model, document)


class _Document(msgspec.Struct):
    model: ModelOfManifest


def check_files(folder: Path, model: ModelOfManifest) -> None:
    """Check that the files which a manifest names are in its folder.

    Raises:
        ArchiveRefused: one is not, or the handler is neither a file nor one of ``DEFAULT_HANDLERS``.
    """
    named = {
        "serializedFile": model.serialized_file,
        "modelFile": model.model_file,
        "requirementsFile": model.requirements_file,
        "configFile": model.config_file,
    }
    for member, name in named.items():
        if name and not (is_inside(name) and (folder / name).is_file()):
            raise ArchiveRefused(f"The manifest's {member} is {name[:200]!r}, and the archive has no such file.")
    if model.handler not in DEFAULT_HANDLERS and not (folder / model.handler_file()).is_file():
        raise ArchiveRefused(
            f"The manifest's handler is {model.handler[:200]!r}: the archive has no {model.handler_file()[:200]}, and "
            f"the handlers that need no file are {', '.join(DEFAULT_HANDLERS)}."
        )
