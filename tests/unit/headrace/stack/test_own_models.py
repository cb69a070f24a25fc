"""Models that `headrace up --model` serves without a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.stack import own_models
from shared.model_config import load
from shared.own_models import OwnModel, parse
from shared.settings import SettingsError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text("")
    return tmp_path


def test_a_file_is_found_from_anywhere_later(here: Path) -> None:
    assert parse("my_model.py:MyFlowers") == OwnModel("my-flowers", f"{here}/my_model.py:MyFlowers")
    assert parse("roses=my_model.py:MyFlowers").name == "roses"
    assert parse("roses=package.module:create") == OwnModel("roses", "package.module:create")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("my_model.py", "--model must read FILE.py:CLASS or NAME=FILE.py:CLASS, not 'my_model.py'."),
        ("=my_model.py:Flowers", "--model must read"),
        ("my_model.py:", "--model must read"),
        ("absent.py:Flowers", "--model: there is no file absent.py."),
        ("a b=my_model.py:Flowers", "--model: 'a b' cannot be a model's name; write NAME=my_model.py:Flowers."),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(here: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert sentence in str(caught.value)


def test_it_is_served_beside_those_that_the_environment_names(here: Path) -> None:
    found = own_models.with_models(("roses=my_model.py:Roses", "my_model.py:Tulips"), {"HEADRACE_MODELS": "echo"})
    assert found["HEADRACE_MODELS"] == "roses,tulips,echo"
    tables = load(found["HEADRACE_MODELS_FILE"])
    assert {"imagenet", "echo", "roses", "tulips"} <= set(tables)
    assert tables["tulips"].entry == f"{here}/my_model.py:Tulips"


def test_without_one_nothing_changes() -> None:
    environment = {"HEADRACE_MODELS": "echo"}
    assert own_models.with_models((), environment) is environment


@pytest.mark.parametrize("texts", [("a=my_model.py:A", "a=my_model.py:B"), ("echo=my_model.py:A",)])
def test_two_models_cannot_have_the_same_name(here: Path, texts: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=r"there is a model '(a|echo)' already; write NAME=FILE"):
        own_models.with_models(texts, {})
