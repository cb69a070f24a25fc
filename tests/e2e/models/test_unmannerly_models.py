"""A model may treat its process as its own: its forks end where they come back, and logs and sockets stay apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.process_end import descendants
from tests.e2e.stack import Process, Stack
from tests.helpers import eventually


@pytest.fixture
def stack(valkey_url: str, tmp_path: Path, model_name: str, request: pytest.FixtureRequest) -> Iterator[Stack]:
    file, entry = tmp_path / "models.toml", "tests.e2e.models.unmannerly:create"
    options = f'options = {{ how = "{request.param}" }}'
    file.write_text(f'[models.{model_name}]\nfamily = "python"\nentry = "{entry}"\n{options}\n')
    with Stack(valkey_url, file) as stack:
        stack.start_front_end()
        yield stack


def _serves(stack: Stack, model_name: str, count: int = 10) -> Process:
    consumer = stack.start_consumer(model_name)
    stack.wait(model_name)
    for number in range(count):
        answer = stack.predict(model_name, b"%d" % number)
        assert (answer.status, bytes(answer.body["outputs"][0]["data"])) == (200, b"%d" % number)
    return consumer


@pytest.mark.parametrize(
    "stack",
    [
        f"fork {place} {end}"
        for place in ("load", "preprocess", "run", "postprocess")
        for end in ("exit", "raise", "return")
    ],
    indirect=True,
)
def test_a_fork_never_comes_back_into_the_consumer(stack: Stack, model_name: str) -> None:
    consumer = _serves(stack, model_name)
    pid = consumer.popen.pid
    eventually(lambda: not [child for child in descendants(pid) if _runs(child)])
    assert consumer.terminate() == 0
    output = consumer.output()
    assert output.count("Ready: ") == 1
    assert "cannot be loaded" not in output
    assert "failed for request" not in output


def _runs(pid: int) -> bool:
    """One that has ended and whose status nobody asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("stack", ["descriptors", "streams", "logging"], indirect=True)
def test_the_log_goes_on_and_never_into_a_socket(stack: Stack, model_name: str) -> None:
    consumer = _serves(stack, model_name)
    for number in (1, 2):
        assert not os.readlink(f"/proc/{consumer.popen.pid}/fd/{number}").startswith("socket:")
    assert consumer.terminate() == 0
    assert "Draining: " in consumer.output()
