"""Family ``python``: your own model, named by ``entry``: ``"package.module:factory"`` or ``"folder/file.py:Class"``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from consumer.fork_guard import never_in_a_fork, put_back
from consumer.models.base import Model
from consumer.models.load_errors import EntryFailed, said_by
from shared import files
from shared.model_config import ModelConfig


def build(config: ModelConfig, threads: int) -> Model:
    """Make the model that the class or function named by ``entry`` returns.

    A class gets ``options`` as its arguments by name, a function a copy of them.
    """
    return made(config.entry or "", dict(config.options))


@never_in_a_fork
def made(entry: str, *arguments: object) -> Model:
    """Import the entry's module, call its factory with ``arguments`` and return the model it makes.

    Raises:
        ValueError: the entry is malformed, cannot be imported, is not callable or makes something else than a Model;
            ``EntryFailed`` where the model's own code raised.
    """
    module_name, separator, attribute = entry.rpartition(":")
    is_file = module_name.endswith(".py")
    if not (module_name and separator and attribute) or ("/" in module_name and not is_file):
        raise ValueError(f"entry must read 'package.module:factory' or 'file.py:Class', not {entry!r}.")
    try:
        module = _file(Path(module_name)) if is_file else _module(module_name)
        return _called(entry, module, attribute, arguments)
    finally:
        put_back()


def _called(entry: str, module: ModuleType, attribute: str, arguments: Sequence[object]) -> Model:
    factory = getattr(module, attribute, None)
    if factory is None:
        # Where it was found shows that it is another one: a name of Python's own library wins over a file of yours.
        found = getattr(module, "__file__", None) or "built into Python"
        raise ValueError(f"module {module.__name__!r} ({found}) has no {attribute!r}, which entry {entry!r} names.")
    if not callable(factory):
        raise ValueError(f"entry {entry!r} must name a function or a class, but it is a {type(factory).__name__}.")
    if isinstance(factory, type) and not issubclass(factory, Model) and factory.__new__ is object.__new__:
        raise ValueError(
            f"class {attribute} of entry {entry!r} must derive from headrace.model.Model, or from ImageModel, "
            "TextModel or TensorModel there."
        )
    try:
        model = factory(**options) if (options := _options(factory, arguments)) is not None else factory(*arguments)
    except BaseException as error:  # a script without a guard calls `sys.exit()`
        raise EntryFailed(f"{entry} failed: {said_by(error)}") from error
    if not isinstance(model, Model):
        raise ValueError(
            f"{entry} must return an instance of headrace.model.Model, but it returned a {type(model).__name__}."
        )
    return model


def _options(factory: object, arguments: Sequence[object]) -> dict[str, Any] | None:
    """Return what a model's class is called with by name: the options; None for a function."""
    is_model = isinstance(factory, type) and issubclass(factory, Model)
    given = arguments[0] if len(arguments) == 1 else None
    return given if is_model and isinstance(given, dict) else None


def _file(path: Path) -> ModuleType:
    """Import a file by its path; what lies beside it can be imported by its own name."""
    if not path.is_file():
        raise ValueError(f"there is no file {files.shown(path)}, seen from {os.getcwd()}.")
    if not path.stem.isidentifier():
        raise ValueError(f"the name of {path.name!r} is none that Python can import: use letters, digits and '_'.")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _module(path.stem)
    found = getattr(module, "__file__", None)
    if found is None or not os.path.samefile(found, path):
        raise ValueError(f"importing {path.stem!r} gives {found or 'a module of Python itself'}: rename {path.name}.")
    return module


def _module(name: str) -> ModuleType:
    """Import ``name`` as seen from the working directory."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            raise ValueError(f"there is no module {name!r} that could be imported from {here}.") from error
        raise EntryFailed(f"module {name!r} imports {missing!r}, which is not installed.") from error
    except BaseException as error:
        raise EntryFailed(f"importing {name!r} failed: {said_by(error)}") from error
