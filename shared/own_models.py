"""Models of one's own that a command line names, ``file.py:Class``, without a table in the models file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from . import files
from .names import is_name
from .settings import SettingsError

_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A model of one's own.

    Attributes:
        name: of the model, as in ``models.toml``.
        entry: its code.
    """

    name: str
    entry: str


def parse(text: str) -> OwnModel:
    """Read ``[NAME=]FILE.py:CLASS`` or ``[NAME=]package.module:function``; without a name, it is made of the last part.

    Raises:
        SettingsError: it reads otherwise.
    """
    name, separator, entry = text.rpartition("=")
    place, colon, what = entry.rpartition(":")
    if not (place and colon and what) or (separator and not name):
        raise SettingsError(f"--model must read FILE.py:CLASS or NAME=FILE.py:CLASS, not {text!r}.")
    name = name or _HUMPS.sub("-", what).lower()
    if not is_name(name):
        raise SettingsError(f"--model: {name!r} cannot be a model's name; write NAME={entry}.")
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise SettingsError(f"--model: there is no file {files.shown(place)}.")
        entry = f"{Path(place).absolute()}:{what}"
    return OwnModel(name, entry)
