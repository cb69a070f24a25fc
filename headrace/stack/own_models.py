"""``headrace up --model file.py:Class``: a models file for models that have no table yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.model_config import USUAL_FILE, load
from shared.modules import ROOT
from shared.own_models import OwnModel, parse
from shared.settings import Settings, SettingsError

FILE = "own-models.toml"


def settings(models: Sequence[OwnModel], environment: Mapping[str, str], data_dir: Path) -> dict[str, str]:
    """Write a models file with the tables there are and those of ``models``; return the settings that serve them [I/O].

    What ``HEADRACE_MODELS`` names is served as well.

    Raises:
        SettingsError: two have the same name, or the file cannot be read or written.
    """
    names = [one.name for one in models]
    source = Path(environment.get("HEADRACE_MODELS_FILE", USUAL_FILE))
    tables = load(source)
    for name in names:
        if names.count(name) > 1 or name in tables:
            raise SettingsError(f"--model: there is a model {name!r} already; write NAME=FILE.py:CLASS.")
    if not source.exists():
        source = ROOT / USUAL_FILE
    text = source.read_text(encoding="utf-8")
    for one in models:
        text += f'\n[models.{one.name}]\nfamily = "python"\nentry = {json.dumps(one.entry)}\n'
    file = data_dir / FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error.strerror or error}.") from None
    others = [environment["HEADRACE_MODELS"]] if environment.get("HEADRACE_MODELS") else []
    return {"HEADRACE_MODELS": ",".join([*names, *others]), "HEADRACE_MODELS_FILE": str(file.absolute())}


def with_models(texts: Sequence[str], environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``environment`` with the settings that serve the models of ``--model`` [I/O].

    Raises:
        SettingsError: one of them cannot be read.
    """
    if not texts:
        return environment
    data_dir = Path(Settings.from_env(environment).data_dir)
    return {**environment, **settings([parse(text) for text in texts], environment, data_dir)}
