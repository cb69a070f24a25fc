"""The life of a model in a real consumer: loading that fails or hangs is its own matter, and everything is closed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared import keys
from shared.process.exit_codes import MODEL_CANNOT_LOAD
from shared.redis.client import connect
from shared.state import starts
from tests.children import ROOT, clean_environment
from tests.e2e.stack import Stack
from tests.helpers import eventually, first


def _models(folder: Path, name: str, **options: str) -> Path:
    path = folder / "models.toml"
    told = ", ".join(f'{key} = "{value}"' for key, value in {"folder": str(folder), **options}.items())
    path.write_text(
        f'[models.{name}]\nfamily = "python"\nentry = "tests.e2e.models.lively:create"\noptions = {{ {told} }}\n'
    )
    return path


class Life:
    """A consumer of the lively model, and what the model noted."""

    def __init__(self, redis_url: str, folder: Path, name: str, **options: str) -> None:
        self.stack = Stack(redis_url, _models(folder, name, **options), DATA_DIR=str(folder / "data"))
        self._folder = folder

    def events(self, kind: str) -> list[int]:
        """Where events of this kind happened, in order."""
        lines = (self._folder / "events").read_text().splitlines() if (self._folder / "events").exists() else []
        return [int(line.split()[1]) for line in lines if line.split()[0] == kind]

    def order(self) -> list[str]:
        """The kinds of events in order, repetitions left out."""
        kinds = [line.split()[0] for line in (self._folder / "events").read_text().splitlines()]
        return [kind for index, kind in enumerate(kinds) if index == 0 or kind != kinds[index - 1]]


@pytest.fixture
def life(valkey_url: str, tmp_path: Path, model_name: str, request: pytest.FixtureRequest) -> Iterator[Life]:
    life = Life(valkey_url, tmp_path, model_name, **getattr(request, "param", {}))
    with life.stack:
        yield life


def _gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _failing(life: Life, model_name: str) -> tuple[int, str]:
    """Start a consumer that is to fail; returns its status and what it printed."""
    process = life.stack.begin_consumer(model_name)
    status = process.popen.wait()
    return status, process.output()


@pytest.mark.parametrize("life", [{"load": "helpers"}], indirect=True)
def test_a_model_is_closed_on_its_own_thread_and_nothing_that_it_started_is_left(life: Life, model_name: str) -> None:
    process = life.stack.start_consumer(model_name)
    helpers = life.events("helper")
    assert len(helpers) == 3
    assert not _gone(helpers[:1])
    assert process.terminate() == 0
    [loaded], [closed] = life.events("load"), life.events("close")
    assert {loaded, closed} == set(life.events("run")) | {closed}
    assert loaded == closed
    assert life.order()[-2:] == ["close", "atexit"]
    eventually(lambda: _gone(helpers))


@pytest.mark.parametrize("life", [{"close": how} for how in ("raise", "exit", "hang")], indirect=True)
def test_a_close_that_misbehaves_does_not_change_how_the_consumer_ends(life: Life, model_name: str) -> None:
    process = life.stack.start_consumer(model_name)
    assert process.terminate() == 0
    assert len(life.events("close")) == 1
    assert "close() of the model" in process.output()


@pytest.mark.parametrize(
    ("life", "said", "traced"),
    first(
        2,
        [
            ({"load": "half-way"}, "RuntimeError: The second half is missing.", "in load"),
            ({"load": "exit"}, "it called sys.exit(2)", "in load"),
            ({"load": "signals"}, "only the main thread install signal handlers", "in load"),
            ({"load": "panic"}, "PanicException: called `Option::unwrap()`", "in load"),
            ({"load": "memory"}, "MemoryError", "in load"),
            ({"load": "refuse"}, "this model needs a Tuesday.", "in load"),
            ({"load": "factory"}, "it called sys.exit('no licence')", "in create"),
        ],
    ),
    indirect=["life"],
)
def test_what_loading_raises_is_told_as_the_models_trouble(
    life: Life, model_name: str, valkey_url: str, said: str, traced: str
) -> None:
    status, output = _failing(life, model_name)
    assert status == MODEL_CANNOT_LOAD
    assert f"Model {model_name} cannot be loaded: " in output
    assert said in output
    assert traced in output
    assert len(life.events("close")) == len(life.events("load"))
    eventually(lambda: _gone(life.events("helper")))
    [start] = _starts(valkey_url, model_name)
    assert start.phase is starts.Phase.FAILED
    assert said in start.detail


def test_a_wrong_table_is_the_models_trouble_and_has_no_traceback(
    valkey_url: str, tmp_path: Path, model_name: str
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(f'[models.{model_name}]\nfamily = "python"\nentry = "tests.e2e.models.lively:nothing"\n')
    with Stack(valkey_url, path) as stack:
        process = stack.begin_consumer(model_name)
        assert process.popen.wait() == MODEL_CANNOT_LOAD
        output = process.output()
    assert "has no 'nothing'" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("life", [{"load": "hang"}], indirect=True)
def test_a_model_that_loads_for_ever_is_seen_and_can_be_stopped(life: Life, model_name: str, valkey_url: str) -> None:
    process = life.stack.begin_consumer(model_name)
    [start] = eventually(lambda: [one for one in _starts(valkey_url, model_name) if "load in" in one.detail])
    assert start.phase is starts.Phase.LOADING
    assert "tests/e2e/models/lively.py" in start.detail
    told = _status(valkey_url, model_name)
    assert told["workers"] == []
    assert [one["phase"] for one in told["starts"]] == ["loading"]
    assert process.terminate() == 0
    assert life.events("close") == []  # what still loads cannot be closed


def test_a_consumer_that_serves_takes_back_what_it_said_of_its_start(
    life: Life, model_name: str, valkey_url: str
) -> None:
    life.stack.start_consumer(model_name)
    eventually(lambda: [one.phase for one in _starts(valkey_url, model_name)] == [starts.Phase.READY])
    assert _status(valkey_url, model_name)["starts"] == []


def _starts(redis_url: str, model: str) -> list[starts.Start]:
    with connect(redis_url) as client:
        fields: Any = client.hgetall(keys.starts(model))
    return list(starts.decode(fields).values())


def _status(redis_url: str, model: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "status", "--interval", "0", "--json"],
        cwd=ROOT,
        env=clean_environment(HEADRACE_REDIS_URL=redis_url),
        capture_output=True,
        check=True,
        text=True,
    )
    [found] = [one for one in json.loads(done.stdout)["models"] if one["model"] == model]
    return dict(found)
