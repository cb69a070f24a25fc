from __future__ import annotations

import sys
from pathlib import Path

import pytest

from consumer.models.base import Model
from consumer.models.families import build
from shared.model_config import ModelConfig
from shared.wire.messages import Request

ROOT = Path(__file__).parents[4]


def made(entry: str, options: dict[str, object] | None = None) -> Model:
    return build("mine", ModelConfig(family="python", entry=entry, options=options or {}))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with modules in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    (tmp_path / "headrace_test_mine.py").write_text(
        "number = 5\ndef text(options): return 'no model'\nclass Plain: ...\n"
    )
    (tmp_path / "headrace_test_needs.py").write_text("import headrace_test_absent\n")
    (tmp_path / "headrace_test_breaks.py").write_text("1 / 0\n")
    (tmp_path / "random.py").write_text("def create(options): return None\n")
    (tmp_path / "json.py").write_text("")
    (tmp_path / "headrace-test.py").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("no_colon", "entry must read 'package.module:factory' or 'file.py:Class', not 'no_colon'"),
        ("my_models/mine:create", "entry must read"),
        ("my_models/mine.py:create", "there is no file my_models/mine.py, seen from "),
        ("headrace-test.py:create", "the name of 'headrace-test.py' is none that Python can import"),
        (":factory", "entry must read"),
        ("headrace_test_nowhere:create", "there is no module 'headrace_test_nowhere'"),
        ("headrace_test_nowhere.part:create", "there is no module 'headrace_test_nowhere.part'"),
        ("headrace_test_needs:create", "'headrace_test_needs' imports 'headrace_test_absent', which is not installed"),
        ("headrace_test_breaks:create", "importing 'headrace_test_breaks' failed: ZeroDivisionError"),
        ("headrace_test_mine:create", "headrace_test_mine.py) has no 'create'"),
        ("random:create", "random.py) has no 'create'"),  # the user's own is in its shadow
        ("json.py:create", "importing 'json' gives "),
        ("sys:create", "module 'sys' (built into Python) has no 'create'"),
        ("headrace_test_mine:number", "must name a function or a class, but it is a int"),
        ("headrace_test_mine:Plain", "class Plain of entry 'headrace_test_mine:Plain' must derive from headrace.model"),
        ("headrace_test_mine:text", "must return an instance of headrace.model.Model, but it returned a str"),
        ("headrace_test_mine:text.upper", "has no 'text.upper'"),
    ],
)
def test_a_wrong_entry_gets_one_clear_sentence(here: Path, entry: str, expected: str) -> None:
    with pytest.raises(ValueError, match="Model mine cannot be loaded: ") as caught:
        made(entry)
    assert expected in str(caught.value)


def test_a_factory_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match="builtins:int failed: TypeError"):
        made("builtins:int")


def test_the_example_names_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    model = made("examples.custom_model:create", {"places": 2})
    model.load("cpu", "fp32")
    body = (ROOT / "examples/photos/coffee.jpg").read_bytes()
    request = Request("a", 1000, content_type="image/jpeg", body=body)
    outputs = model.run([*model.preprocess(request), *model.sample_rows(3)])
    predictions = model.postprocess(outputs[:1], request).predictions
    assert predictions is not None
    assert [prediction.label for prediction in predictions] == ["brown", "red"]
    assert len(outputs) == 4
    assert model.describe().labels is not None
