"""From a ``models.toml`` table to a model. Families are imported only when asked for, so that echo needs no torch."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint

from consumer.fork_guard import never_in_a_fork, put_back
from shared.families import FAMILIES, Family, added_by
from shared.model_config import ModelConfig, check_needs
from shared.modules import full_name

from .base import Model
from .load_errors import EntryFailed, said_by, told_as_the_models


def build(name: str, config: ModelConfig, threads: int = 1) -> Model:
    """Make the model that ``config`` describes; nothing heavy happens before its ``load``.

    Args:
        name: the model's name in ``models.toml``, for messages.
        threads: for one batch, where the model does not take torch's.

    Raises:
        ModelCannotLoad: the table cannot become a model; one sentence that names the model and the reason.
    """
    with told_as_the_models(name):
        family = find(config.family)
        if config.family not in FAMILIES:
            from .own import python_family

            check_needs(name, config, family)
            return python_family.made(family.build, config, threads)
        module, _, function = family.build.partition(":")
        model: Model = getattr(import_module(full_name(module)), function)(config, threads)
        return model


@cache
def find(name: str) -> Family:
    """Return a family; that of a package is imported.

    Raises:
        ValueError: there is none, or what the package's entry point names is none; ``EntryFailed`` where its code
            raised.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    packages = added_by(name)
    if not packages:
        raise ValueError(f"there is no family {name!r}; the families are {', '.join(FAMILIES)}.")
    if len(packages) > 1:
        raise ValueError(f"the packages {' and '.join(sorted(packages))} both add a family {name!r}; uninstall one.")
    [(package, point)] = packages.items()
    found = _imported(name, package, point)
    if not isinstance(found, Family):
        kind = type(found).__name__
        raise ValueError(f"{point.value!r} of package {package} must be a shared.families.Family, but it is a {kind}.")
    return found


@never_in_a_fork
def _imported(name: str, package: str, point: EntryPoint) -> object:
    try:
        return point.load()
    except BaseException as error:  # foreign code, which may even exit
        raise EntryFailed(f"importing family {name!r} of package {package} failed: {said_by(error)}") from error
    finally:
        put_back()
