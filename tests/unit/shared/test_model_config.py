"""models.toml: what is wrong in it is refused by key, and the shipped one is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import model_config
from shared.settings import SettingsError

ROOT = Path(__file__).parents[3]
ECHO = '[models.echo]\nfamily = "echo"\n'


def refusal(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        model_config.parse(text, "some.toml")
    return str(caught.value)


def test_the_shipped_file_declares_the_shipped_models() -> None:
    models = model_config.load(ROOT / "models.toml")
    assert {"imagenet", "echo", "bench-mobilenet", "bench-resnet18"} <= set(models)
    assert models["imagenet"].family == "timm"
    assert models["bench-mobilenet"].weights == "random"


def test_a_table_needs_only_a_family() -> None:
    config = model_config.parse(ECHO)["echo"]
    assert (config.precision, config.max_batch, config.window_ms, config.batch_policy) == ("auto", 32, None, None)
    assert (config.version, config.options, config.preprocessing, config.consumers) == ("1", {}, None, 0)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("max_batch = 0", "max_batch"),
        ("consumers = -1", "consumers"),
        ("consumers = 257", "consumers"),
        ("max_batch = 4097", "max_batch"),
        ("max_batch = 1.5", "max_batch"),
        ('max_batch = "8"', "max_batch"),
        ("window_ms = -1", "window_ms"),
        ("window_ms = nan", "window_ms"),
        ("window_ms = inf", "window_ms"),
        ("window_ms = true", "window_ms"),
        ("buckets = []", "buckets"),
        ("buckets = [0, 4]", "buckets"),
        ("buckets = [1, 4097]", "buckets"),
        ("buckets = 8", "buckets"),
        ('precision = "fp64"', "models.echo.precision"),
        ('batch_policy = "greedy"', "models.echo.batch_policy"),
        ("version = 2", "version"),
        ('colour = "blue"', "colour"),
        ("[models.echo.preprocessing]\nresize = 0", "resize"),
        ("[models.echo.preprocessing]\nmean = [1.0, 2.0]", "mean"),
        ("[models.echo.preprocessing]\nsharpen = true", "sharpen"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(line: str, part: str) -> None:
    message = refusal(ECHO + line + "\n")
    assert part in message
    assert "models.echo" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[models.x]\n", "family"),
        ('[models.x]\nfamily = "onnx"\n', "models.x.weights"),
        ('[models.x]\nfamily = "python"\n', "models.x.entry"),
        ('[models.x]\nfamily = "timm"\narchitecture = "resnet18"\n', "weights"),
        ('[models.x]\nfamily = "torchvision"\nweights = "random"\n', "architecture"),
        ("models = 3\n", "[models.NAME]"),
        ("models.x = 3\n", "models.x"),
        ("", "[models.NAME]"),
        (ECHO + "[server]\nport = 1\n", "nothing else"),
        ("[models.echo\n", "not valid TOML"),
        ('[models."a b"]\nfamily = "echo"\n', "'a b'"),
        ('[models."a}b"]\nfamily = "echo"\n', "'a}b'"),
    ],
)
def test_a_wrong_file_is_refused_by_its_place(text: str, part: str) -> None:
    assert part in refusal(text)


@pytest.mark.parametrize("text", ["[models.echo\n", "[server]\n", '[models."a b"]\nfamily = "echo"\n'])
def test_the_sentence_names_the_file(text: str) -> None:
    assert "some.toml" in refusal(text)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "absent.toml", tmp_path, broken):
        with pytest.raises(SettingsError, match=r"cannot be read|is not text"):
            model_config.load(path)


def test_a_model_that_is_not_there_is_refused_with_those_that_are() -> None:
    models = model_config.parse(ECHO)
    assert model_config.pick(models, "echo", "some.toml") is models["echo"]
    with pytest.raises(SettingsError, match=r"'cat' is not in some\.toml; it has echo\."):
        model_config.pick(models, "cat", "some.toml")
    with pytest.raises(SettingsError, match="no models"):
        model_config.pick({}, "cat", "some.toml")
