"""From a model archive of TorchServe to a table of ``models.toml`` [I/O]."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from shared import files
from shared.mar import manifest, serving, unpacking
from shared.mar.manifest import ModelOfManifest
from shared.model_config import USUAL_FILE, load
from shared.modules import ROOT
from shared.names import is_name
from shared.settings import Settings, SettingsError

Say = Callable[[str], None]

_MOST_SOURCE_BYTES = 4 << 20
_OURS = "ts"


def run(source: Path, name: str | None, write: bool, environment: Mapping[str, str], say: Say, warn: Say) -> None:
    """Import ``source``, an archive or an unpacked folder.

    Args:
        name: of the model; None takes the manifest's.
        write: append the table to the models file.
        say: takes the table, or what was done; ``warn`` what else you should know.

    Raises:
        ArchiveRefused: it cannot be used.
        SettingsError: the name cannot be one or is taken, or the models file cannot be read or written.
    """
    models_file = Path(environment.get("HEADRACE_MODELS_FILE", USUAL_FILE))
    is_folder = source.is_dir()
    place = Path(Settings.from_env(environment).data_dir).absolute() / "archives"
    folder = source.absolute() if is_folder else place / _checked(name or unpacking.stem(source))
    if not is_folder:
        unpacking.unpack(source, folder)
    try:
        model = manifest.read(folder).model
        name = _checked(name or model.model_name or unpacking.stem(source))
        if name in load(models_file):
            raise SettingsError(f"{models_file} has a model {name!r} already; choose another --name.")
        text = table(name, folder, model, serving.read(folder, model))
        if write:
            _append(models_file, text)
    except BaseException:
        if not is_folder:
            _remove(folder)
        raise
    for line in lacking(folder, model):
        warn(line)
    say(f"Model {name} is in {models_file}: HEADRACE_MODELS={name} headrace up" if write else text)


def table(name: str, folder: Path, model: ModelOfManifest, found: serving.Serving) -> str:
    """Return the table of a model. Pure."""
    lines = [f"[models.{name}]", 'family = "torchserve"', f"weights = {json.dumps(str(folder))}"]
    lines.append(f"version = {json.dumps(model.model_version)}")
    for key, value in (
        ("max_batch", found.max_batch),
        ("window_ms", found.window_ms),
        ("consumers", found.consumers),
    ):
        if value is not None:
            lines.append(f"{key} = {value}")
    return "\n".join(lines)


def lacking(folder: Path, model: ModelOfManifest) -> Iterator[str]:
    """Say what must be installed before the archive's code can run; it is read and not run."""
    missing = {
        package
        for name in (model.handler_file(), model.model_file)
        if name is not None
        for package in _imports(folder / name)
        if package != _OURS and not (folder / package).exists() and not (folder / f"{package}.py").exists()
        if not _is_installed(package)
    }
    if model.requirements_file is not None:
        yield f"The archive has requirements: pip install -r {folder / model.requirements_file}"
    if missing:
        names = " ".join(sorted(missing))
        yield f"The archive's code imports what is not installed here: pip install {names}"


def _imports(path: Path) -> Iterator[str]:
    """Return the packages that a file imports."""
    if not path.is_file():
        return
    try:
        tree = ast.parse(files.read(path, _MOST_SOURCE_BYTES))
    except (files.FileRefused, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module.partition(".")[0]


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _checked(name: str) -> str:
    """Return a model's name; what it cannot have becomes ``-``."""
    found = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
    if not is_name(found):
        raise SettingsError(f"{name[:80]!r} cannot be a model's name; choose one with --name.")
    return found


def _append(models_file: Path, text: str) -> None:
    source = models_file if models_file.exists() else ROOT / USUAL_FILE
    try:
        before = source.read_text(encoding="utf-8").rstrip("\n")
        models_file.write_text(f"{before}\n\n{text}\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{models_file} cannot be written: {error.strerror or error}.") from None


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
