"""Whether consumers would start: each model is built in a process of its own, and not loaded [I/O]."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Final

from shared import model_config
from shared.modules import full_name
from shared.redis.embedded import dies_with_parent
from shared.settings import Settings

from . import extras

LIMIT_S: Final = 60.0
_MOST_CHARACTERS: Final = 2000


def problems(environment: Mapping[str, str]) -> tuple[list[str], str | None]:
    """Return why consumers of ``HEADRACE_MODELS`` would not start, one sentence each, and what could not be checked.

    Args:
        environment: with settings and a models file that can be used.
    """
    settings = Settings.from_env(environment)
    tables = model_config.load(settings.models_file)
    chosen = {name: tables[name] for name in settings.models}
    lacking = extras.missing_for(chosen)
    if lacking is not None:
        return [], f"The models were not tried. {lacking}"
    found = [_tried(name, environment) for name in chosen]
    return [sentence for sentence in found if sentence is not None], None


def _tried(name: str, environment: Mapping[str, str]) -> str | None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", full_name("consumer.check"), "--model", name],
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            preexec_fn=dies_with_parent(),
        )
    except subprocess.TimeoutExpired:
        return f"Model {name}: its code has not been imported within {LIMIT_S:g} s."
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.decode(errors="backslashreplace").splitlines() if line.strip()]
    said = lines[-1].strip()[:_MOST_CHARACTERS] if lines else f"its process ended with code {done.returncode}."
    return said if name in said else f"Model {name}: {said}"
