"""Family ``python``: the user's own model, named by ``entry = "package.module:factory"``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from consumer.fork_guard import never_in_a_fork, put_back
from consumer.models.base import Model
from consumer.models.load_errors import EntryFailed, said_by
from shared.model_config import ModelConfig


def build(config: ModelConfig, threads: int) -> Model:
    """Make the model that the factory named by ``entry`` returns; it is called with a copy of ``options``."""
    return made(config.entry or "", dict(config.options))


@never_in_a_fork
def made(entry: str, *arguments: object) -> Model:
    """Import the entry's module, call its factory with ``arguments`` and return the model it makes.

    Raises:
        ValueError: the entry is malformed, cannot be imported, is not callable or makes something else than a Model;
            ``EntryFailed`` where the model's own code raised.
    """
    module_name, separator, attribute = entry.partition(":")
    if not (module_name and separator and attribute) or "/" in module_name or module_name.endswith(".py"):
        raise ValueError(f"entry must read 'package.module:factory', with dots as an import has them, not {entry!r}.")
    try:
        return _called(entry, _module(module_name), attribute, arguments)
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
    try:
        model = factory(*arguments)
    except BaseException as error:  # a script without a guard calls `sys.exit()`
        raise EntryFailed(f"{entry} failed: {said_by(error)}") from error
    if not isinstance(model, Model):
        raise ValueError(
            f"{entry} must return an instance of consumer.models.base.Model, but it returned a {type(model).__name__}."
        )
    return model


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
