"""Family ``torchserve``: an archive (``.mar``, ``.tar.gz``), its folder, or a handler's file, named by ``weights``."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from consumer.models.base import Model
from shared import files
from shared.mar import archive, manifest, unpacking
from shared.mar.manifest import Manifest
from shared.model_config import ModelConfig

from .handler_model import HandlerModel, Opened

MAR = ".mar"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``options`` of a model's table.

    Attributes:
        trust: weights that are a pickle of anything but tensors may be opened, which runs whatever they say.
        serialized_file, model_file: for a handler's file: beside it, the weights and the network's code.
    """

    trust: bool = False
    serialized_file: str | None = None
    model_file: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from.

    Attributes:
        path: of the archive, the folder or the handler's file.
        options: of its table.
    """

    path: Path
    options: Options

    def open(self) -> Opened:
        """Return the folder and its manifest; an archive is unpacked into a folder of its own first [I/O].

        Raises:
            shared.mar.archive.ArchiveRefused: none can be had.
        """
        if self.path.is_dir():
            return Opened(self.path.resolve(), manifest.read(self.path), _nothing)
        if self.path.suffix == ".py":
            return Opened(self.path.resolve().parent, self._of_a_file(), _nothing)
        place = Path(tempfile.mkdtemp(prefix="headrace-mar-"))
        folder = place / "model"
        try:
            unpacking.unpack(self.path, folder)
            return Opened(folder, manifest.read(folder), lambda: shutil.rmtree(place, ignore_errors=True))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise

    def _of_a_file(self) -> Manifest:
        """Return the manifest that an archive with this handler would have."""
        if not self.path.is_file():
            raise archive.ArchiveRefused(f"There is no file {files.shown(self.path)}.")
        model: dict[str, str] = {"modelName": self.path.stem, "modelVersion": "1.0", "handler": self.path.name}
        for member, name in (
            ("serializedFile", self.options.serialized_file),
            ("modelFile", self.options.model_file),
        ):
            if name is not None:
                model[member] = name
        document = {"createdOn": "", "runtime": "python", "model": model}
        found = msgspec.convert(model, manifest.ModelOfManifest)
        manifest.check_files(self.path.resolve().parent, found)
        return Manifest(found, document)


def build(config: ModelConfig, threads: int) -> Model:
    """Make the model; its archive is opened when it loads.

    Raises:
        ValueError: ``options`` have what there is not, or there is nothing at ``weights``.
    """
    options = _options(config.options)
    path = Path(config.weights or "")
    if not path.exists():
        raise ValueError(f"weights: there is no file or folder {files.shown(path)}.")
    return HandlerModel(Source(path, options), options.trust, config.max_batch, config.samples)


def _options(given: Mapping[str, Any]) -> Options:
    try:
        return msgspec.convert(json.loads(json.dumps(given)), Options)
    except (msgspec.ValidationError, TypeError) as error:
        raise ValueError(f"options: {error}.") from None


def _nothing() -> None:
    """Remove nothing: the folder is the user's."""
