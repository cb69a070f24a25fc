"""From an unpacked archive to the function that answers: finds the handler, imports it and initializes it [I/O]."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from consumer.fork_guard import never_in_a_fork, put_back
from consumer.models.load_errors import EntryFailed, said_by
from shared.mar.manifest import ModelOfManifest
from shared.modules import full_name

from . import ts_modules
from .ts.context import Context

Handle = Callable[[Any, Context], Any]


@never_in_a_fork
def load(folder: Path, model: ModelOfManifest, context: Context) -> tuple[Handle, bool]:
    """Import the handler of an archive and initialize it; say whether it takes pictures.

    Raises:
        ValueError: it is not there or has no entry point; ``EntryFailed`` where its own code raised.
    """
    ts_modules.provide()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        module = _module(folder, model)
        handle, initialize, kind = _entry_point(module, model)
        try:
            initialize(context)
        except ModuleNotFoundError as error:
            raise EntryFailed(_missing(error, folder, model)) from error
        except BaseException as error:
            raise EntryFailed(f"initializing handler {model.handler[:200]} failed: {said_by(error)}") from error
        return handle, kind is not None and ts_modules.takes_pictures(kind)
    finally:
        put_back()


def forget(folder: Path) -> None:
    """Undo what ``load`` did to this process's modules."""
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and Path(file).is_relative_to(folder):
            del sys.modules[name]
    importlib.invalidate_caches()


def _module(folder: Path, model: ModelOfManifest) -> ModuleType:
    file = folder / model.handler_file()
    if not file.is_file():
        return importlib.import_module(full_name(f"consumer.models.torchserve.ts.{model.handler}"))
    if not file.stem.isidentifier():
        raise ValueError(f"the name of {file.name!r} is none that Python can import: use letters, digits and '_'.")
    try:
        module = importlib.import_module(file.stem)
    except ModuleNotFoundError as error:
        raise EntryFailed(_missing(error, folder, model)) from error
    except BaseException as error:
        raise EntryFailed(f"importing handler {file.name} failed: {said_by(error)}") from error
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file.resolve():
        raise ValueError(f"importing {file.stem!r} gives {found or 'a module of Python itself'}: rename {file.name}.")
    return module


def _missing(error: ModuleNotFoundError, folder: Path, model: ModelOfManifest) -> str:
    """Say which package a handler lacks, and how to install it."""
    name = (error.name or str(error)).partition(".")[0]
    what = f"handler {model.handler[:200]} imports {error.name or name!r}"
    if name == "ts":
        return f"{what}, which Headrace has no substitute for: {ts_modules.names()}"
    if model.requirements_file is not None:
        return f"{what}, which is not installed: pip install -r {folder / model.requirements_file}"
    return f"{what}, which is not installed: pip install {name}"


def _entry_point(module: ModuleType, model: ModelOfManifest) -> tuple[Handle, Callable[[Context], Any], type | None]:
    name = model.function() or "handle"
    function = getattr(module, name, None)
    if callable(function) and not isinstance(function, type):
        return function, lambda context: function(None, context), None
    own = [
        one
        for one in vars(module).values()
        if isinstance(one, type)
        and one.__module__ == module.__name__
        and (not model.function() or one.__name__ == name)
    ]
    found = [one for one in own if callable(getattr(one, "handle", None)) or _has_steps(one)]
    if len(found) != 1:
        have = ", ".join(one.__name__ for one in found) or "none"
        raise ValueError(
            f"handler {model.handler[:200]} must have a function {name}(data, context), or one class with handle(data, "
            f"context) or with preprocess, inference and postprocess; such classes there: {have}."
        )
    try:
        made = found[0]()
    except BaseException as error:
        raise EntryFailed(f"making {found[0].__name__} of handler {model.handler} failed: {said_by(error)}") from error
    handle = made.handle if callable(getattr(made, "handle", None)) else _in_steps(made)
    initialize = getattr(made, "initialize", None)
    return handle, initialize if callable(initialize) else lambda context: None, found[0]


def _has_steps(one: type) -> bool:
    return all(callable(getattr(one, name, None)) for name in ("preprocess", "inference", "postprocess"))


def _in_steps(made: Any) -> Handle:
    return lambda data, context: made.postprocess(made.inference(made.preprocess(data)))
