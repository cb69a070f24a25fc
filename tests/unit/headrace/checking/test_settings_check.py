"""`config check` says each problem in a sentence."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from headrace.checking import consumer_check
from headrace.checking.settings_check import problems
from tests.unit.headrace.operators import headrace

ECHO = '[models.echo]\nfamily = "echo"\n'


def _models(folder: Path, text: str, *names: str) -> dict[str, str]:
    file = folder / "models.toml"
    file.write_text(text)
    return {"HEADRACE_MODELS_FILE": str(file), "HEADRACE_MODELS": ",".join(names or ("echo",))}


def test_what_is_well_has_no_problem(tmp_path: Path) -> None:
    assert problems(_models(tmp_path, ECHO)) == []


def test_each_problem_has_its_sentence(tmp_path: Path) -> None:
    settings = {
        **_models(tmp_path, ECHO, "echo", "ecko"),
        "HEADRACE_PORT": "many",
        "HEADRACE_LEASES_MS": "5",
        "HEADRACE_REDIS_URL": "http://x",
    }
    found = problems(settings)
    assert len(found) == 4, found
    for says in (
        "HEADRACE_PORT must be",
        "HEADRACE_LEASES_MS is not a setting",
        "HEADRACE_REDIS_URL must",
        "'ecko' is not",
    ):
        assert any(says in sentence for sentence in found), says


def test_settings_that_are_well_together_are_well(tmp_path: Path) -> None:
    together = {"HEADRACE_DEFAULT_TIMEOUT_MS": "90000", "HEADRACE_MAX_TIMEOUT_MS": "100000"}
    assert problems({**_models(tmp_path, ECHO), **together}) == []
    [found] = problems({**_models(tmp_path, ECHO), "HEADRACE_DEFAULT_TIMEOUT_MS": "90000"})
    assert "must not exceed" in found


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('[models.echo]\nfamily = "echo"\nmax_batch = 0\n', "max_batch"),
        ('[models.echo]\nfamily = "nothing"\n', "models.echo.family must be one of"),
        ('[models.echo]\nfamily = "python"\n', "models.echo.entry is missing"),
        ('[models.echo]\nfamily = "python"\nentry = "nowhere.py:Model"\n', "models.echo.entry: there is no nowhere.py"),
        ('[models.echo]\nfamily = "onnx"\nweights = "none.onnx"\n', "models.echo.weights: there is no none.onnx"),
        ("no toml", "is not valid TOML"),
    ],
)
def test_models_that_cannot_be_served(tmp_path: Path, table: str, says: str) -> None:
    found = problems(_models(tmp_path, table))
    assert len(found) == 1, found
    assert says in found[0]


def test_files_that_settings_name(tmp_path: Path) -> None:
    keys, certificate = tmp_path / "keys.toml", tmp_path / "cert.pem"
    keys.write_text("[keys.a]\nsha256 = 1\n")
    certificate.write_text("none")
    settings = {
        **_models(tmp_path, ECHO),
        "HEADRACE_KEYS_FILE": str(keys),
        "HEADRACE_TLS_CERT_FILE": str(certificate),
        "HEADRACE_TLS_KEY_FILE": str(tmp_path),
    }
    found = problems(settings)
    assert len(found) == 2, found
    assert "keys.a.sha256" in found[0]
    assert "it is a folder" in found[1]


def test_a_front_end_for_everybody_is_a_problem(tmp_path: Path) -> None:
    [found] = problems({**_models(tmp_path, ECHO), "HEADRACE_HOST": "0.0.0.0"})
    assert "is reachable from other machines" in found


def test_the_command_ends_with_2_and_starts_nothing(tmp_path: Path) -> None:
    nobody = "redis://127.0.0.1:1/0"
    said = headrace(nobody, "config", "check", **_models(tmp_path, ECHO))
    assert (said.code, said.err) == (0, "")
    said = headrace(nobody, "config", "check", "--json", **_models(tmp_path, ECHO, "ecko"))
    assert said.code == 2
    assert len(said.json["problems"]) == 1


def test_what_a_consumer_would_refuse_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("print('imported')\nclass Mine: ...\n")
    entry = str(tmp_path / "mine.py")
    text = f"""{ECHO}
        [models.nothing]
        family = "python"
        entry = "{entry}:Yours"
        [models.handler]
        family = "torchserve"
        weights = "{entry}"
        options = {{ colour = 1 }}
        """
    settings = {**os.environ, **_models(tmp_path, text, "echo", "nothing", "handler")}
    found, unknown = consumer_check.problems(settings)
    assert unknown is None
    assert len(found) == 2, found
    assert found[0].startswith("Model nothing cannot be loaded: module 'mine'")
    assert "has no 'Yours'" in found[0]
    assert "colour" in found[1]
    said = headrace("redis://127.0.0.1:1/0", "config", "check", **settings)
    assert (said.code, len(said.err.splitlines())) == (2, 2)


def test_a_model_that_cannot_be_tried_here_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    text = f'{ECHO}[models.net]\nfamily = "torchvision"\narchitecture = "resnet18"\nweights = "random"\n'
    found, unknown = consumer_check.problems({**os.environ, **_models(tmp_path, text, "net")})
    assert found == []
    assert unknown is not None
    assert unknown.startswith("The models were not tried. ")
    assert unknown.endswith("as little as 'headrace[torch]'.")
