"""``headrace import-mar``: the table it prints or writes, and what it refuses."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.__main__ import main
from shared.model_config import load
from tests.e2e.torchserve.archives import archive, manners


def _run(tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    environment = {
        "HEADRACE_DATA_DIR": str(tmp_path / "data"),
        "HEADRACE_MODELS_FILE": str(tmp_path / "models.toml"),
    }
    (tmp_path / "models.toml").touch()
    if not (tmp_path / "models.toml").read_text():
        (tmp_path / "models.toml").write_text('[models.echo]\nfamily = "echo"\n')
    done = CliRunner().invoke(main, ["import-mar", *arguments], env=environment)
    return done.exit_code, done.stdout, done.stderr


def test_the_table_is_printed(tmp_path: Path) -> None:
    code, out, err = _run(tmp_path, str(manners(tmp_path / "manners.mar")))
    assert (code, err) == (0, "")
    folder = tmp_path / "data" / "archives" / "manners"
    assert (folder / "extra.txt").read_text() == "from the archive"
    assert tomllib.loads(out)["models"]["manners"] == {
        "family": "torchserve",
        "weights": str(folder),
        "version": "1.0",
        "max_batch": 4,
        "window_ms": 20,
    }


def test_the_table_is_written_and_not_twice(tmp_path: Path) -> None:
    made = str(manners(tmp_path / "manners.mar"))
    code, out, _ = _run(tmp_path, made, "--name", "my model", "--write")
    assert code == 0
    assert out.endswith("HEADRACE_MODELS=my-model headrace up\n")
    tables = load(tmp_path / "models.toml")
    assert set(tables) == {"echo", "my-model"}
    code, _, err = _run(tmp_path, made, "--name", "echo")
    assert (code, "has a model 'echo' already" in err) == (2, True)
    assert not (tmp_path / "data" / "archives" / "echo").exists()
    code, _, err = _run(tmp_path, made, "--name", "my-model")
    assert (code, "exists already" in err) == (1, True)


def test_a_folder_stays_where_it_is(tmp_path: Path) -> None:
    _run(tmp_path, str(manners(tmp_path / "manners.mar")))
    folder = tmp_path / "data" / "archives" / "manners"
    code, out, _ = _run(tmp_path, str(folder), "--name", "second")
    assert code == 0
    assert tomllib.loads(out)["models"]["second"]["weights"] == str(folder)


def test_packages_that_are_missing_are_named(tmp_path: Path) -> None:
    files = {
        "h.py": "import json, nowhere_to_be_found.x\nfrom ts.context import Context\nimport beside\n",
        "beside.py": "",
        "requirements.txt": "nowhere_to_be_found\n",
    }
    made = archive(tmp_path / "m.mar", files, handler="h.py", requirementsFile="requirements.txt")
    code, _, err = _run(tmp_path, str(made))
    assert code == 0
    assert "pip install -r " in err
    assert err.endswith("imports what is not installed here: pip install nowhere_to_be_found\n")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("batchSize: many\n", "model-config.yaml: batchSize must be a whole number from 1 to"),
        ("batchSize: 0\n", "batchSize must be a whole number"),
        ("maxBatchDelay: true\n", "maxBatchDelay must be a whole number"),
        ("a: [\n", "model-config.yaml cannot be read"),
        ("!!python/object/apply:os.system [exit]\n", "model-config.yaml cannot be read"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, content: str, said: str) -> None:
    files = {"h.py": "", "model-config.yaml": content}
    made = archive(tmp_path / "m.mar", files, handler="h.py", configFile="model-config.yaml")
    code, _, err = _run(tmp_path, str(made))
    assert (code, said in err) == (1, True), err
    assert not (tmp_path / "data" / "archives" / "m").exists()


def test_an_archive_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.mar").write_bytes(b"no zip")
    code, _, err = _run(tmp_path, str(tmp_path / "bad.mar"))
    assert code == 1
    assert err.startswith("headrace: bad.mar is not a .mar archive")
    assert not (tmp_path / "data" / "archives" / "bad").exists()
