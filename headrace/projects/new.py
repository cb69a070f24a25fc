"""`headrace new`: write a project of three files, a model of one's own with its test [I/O]."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

from shared import files
from shared.modules import COMMAND
from shared.names import is_name

_WORD: Final = re.compile(r"[A-Za-z0-9]+")

MODEL: Final = '''"""The model {name}: replace the word list with yours, and the few lines that look at it."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.model import TextModel


class {klass}(TextModel):
    """Says whether a text is friendly."""

    labels = ("friendly", "unfriendly")

    def load(self, device: str, precision: str) -> None:
        """Load weights here, and move them to ``device``."""
        self.kind_words = {{"thanks", "please", "good", "great", "love", "welcome"}}

    def compute(self, texts: Sequence[str]) -> list[list[float]]:
        """Take the texts of a whole batch; give one score for each label, for each text."""
        scores = []
        for text in texts:
            words = text.lower().replace(",", " ").replace(".", " ").replace("!", " ").split()
            kind = sum(word in self.kind_words for word in words)
            friendly = (1 + kind) / (2 + kind)
            scores.append([friendly, 1 - friendly])
        return scores
'''

TEST: Final = '''"""What the model {name} answers, without a server. `{command}` serves it."""

from __future__ import annotations

import pytest

from model import {klass}


@pytest.fixture(scope="module")
def model() -> {klass}:
    made = {klass}()
    made.load("cpu", "fp32")
    return made


def test_kind_words_make_a_text_friendly(model: {klass}) -> None:
    [[friendly, unfriendly]] = model.compute(["Thanks, great work!"])
    assert friendly > unfriendly


def test_a_batch_gives_each_text_its_own_answer(model: {klass}) -> None:
    texts = ["please", "no", "love, love, love"]
    alone = [model.compute([text])[0] for text in texts]
    assert model.compute(texts) == alone


def test_an_empty_text_is_answered_too(model: {klass}) -> None:
    assert model.compute([""]) == [[0.5, 0.5]]
'''

README: Final = """# {name}

Install pytest, once, and run the tests:

    {install}
    python -m pytest

Serve the model, from this folder:

    {command}

In a second terminal:

    {predict}

`model.py` is yours to change: `load` gets the weights, `compute` takes the inputs of a whole batch. For pictures
derive from `ImageModel`, for numbers from `TensorModel`.
"""


INSTALL: Final = "python -m pip install pytest"


class ProjectError(Exception):
    """No project can be written; one sentence."""


def class_name(name: str) -> str:
    """Return the class of a project: ``my-model`` has ``MyModel``. Pure."""
    words = "".join(word[:1].upper() + word[1:] for word in _WORD.findall(name))
    return f"Model{words}" if words[:1].isdigit() else words


def command_of(name: str) -> str:
    """Return what serves a project from its folder. Pure."""
    return f"{COMMAND} up --model {name}=model.py:{class_name(name)}"


def predict_of(name: str) -> str:
    """Return what asks a served project. Pure."""
    return f"echo 'Thanks, great work!' | {COMMAND} predict {name} -"


def steps_of(place: Path, has_pytest: bool) -> list[str]:
    """Return what to type next, a command a line. Pure.

    Args:
        place: the folder of the project, which gives it its name.
        has_pytest: pytest can be imported; no extra of Headrace brings it.
    """
    install = [] if has_pytest else [INSTALL]
    test = [f"cd {shlex.quote(str(place))}", *install, "python -m pytest"]
    return [*test, command_of(place.name), f"{predict_of(place.name)}     (in a second terminal)"]


def files_of(name: str) -> dict[str, str]:
    """Return the files of a project. Pure."""
    commands = {"command": command_of(name), "predict": predict_of(name), "install": INSTALL}
    filled = {"name": name, "klass": class_name(name), **commands}
    return {
        "model.py": MODEL.format(**filled),
        "test_model.py": TEST.format(**filled),
        "README.md": README.format(**filled),
    }


def write(place: Path) -> list[Path]:
    """Write a project into a new or empty folder, which gives it its name; returns the files.

    Raises:
        ProjectError: the name is none, or there is something already; nothing was written.
    """
    name, shown = place.name, files.shown(place)
    if not is_name(name) or not class_name(name).isidentifier():
        raise ProjectError(f"A project is named with 1 to 64 letters, digits, '_' or '-', not {files.shown(name)!r}.")
    try:
        if place.is_dir():
            if any(place.iterdir()):
                raise ProjectError(f"{shown} is not empty; choose another name.")
        elif place.exists() or place.is_symlink():
            raise ProjectError(f"{shown} is there already, and no folder; choose another name.")
        place.mkdir(parents=True, exist_ok=True)
        written = []
        for file, text in files_of(name).items():
            with (place / file).open("x", encoding="utf-8") as handle:
                handle.write(text)
            written.append(place / file)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ProjectError(f"{shown} cannot be written: {why}.") from None
    return written
