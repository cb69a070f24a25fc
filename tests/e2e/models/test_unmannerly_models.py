"""A model may treat its process as its own: its forks end where they come back, and logs and sockets stay apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.process_end import descendants
from tests.e2e.stack import Process, Stack
from tests.helpers import eventually, first

HOW = ("fork exit", "fork raise", "fork return", "descriptors", "streams", "logging")


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One front end for the models of all tests; each has a consumer of its own."""
    file, entry = tmp_path_factory.mktemp("unmannerly") / "models.toml", "tests.e2e.models.unmannerly:create"
    tables = (
        f'[models.{_name(how)}]\nfamily = "python"\nentry = "{entry}"\noptions = {{ how = "{how}" }}\n' for how in HOW
    )
    file.write_text("".join(tables))
    with Stack(valkey_url, file) as stack:
        stack.start_front_end()
        yield stack


def _name(how: str) -> str:
    return f"unmannerly-{os.getpid()}-{how.replace(' ', '-')}"


def _serves(stack: Stack, how: str, count: int = 10) -> Process:
    name = _name(how)
    consumer = stack.start_consumer(name)
    stack.wait(name)
    for number in range(count):
        answer = stack.predict(name, b"%d" % number)
        assert (answer.status, bytes(answer.body["outputs"][0]["data"])) == (200, b"%d" % number)
    return consumer


@pytest.mark.parametrize("how", first(2, HOW[:3]))
def test_a_fork_never_comes_back_into_the_consumer(stack: Stack, how: str) -> None:
    consumer = _serves(stack, how)
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


@pytest.mark.parametrize("how", first(2, HOW[3:]))
def test_the_log_goes_on_and_never_into_a_socket(stack: Stack, how: str) -> None:
    consumer = _serves(stack, how)
    for number in (1, 2):
        assert not os.readlink(f"/proc/{consumer.popen.pid}/fd/{number}").startswith("socket:")
    assert consumer.terminate() == 0
    assert "Draining: " in consumer.output()
