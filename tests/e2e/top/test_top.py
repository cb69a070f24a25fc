"""`headrace top` on a terminal, and without one."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import ROOT, clean_environment
from tests.e2e.stack import Stack, echo_models
from tests.e2e.top.screens import Screen

pytestmark = pytest.mark.timeout(60)

TOP = [sys.executable, "-m", "headrace", "top"]


@pytest.fixture(scope="module")
def models() -> list[str]:
    return sorted(f"t{secrets.token_hex(4)}" for _ in range(2))  # short: they are shown whole


@pytest.fixture(scope="module")
def stack(own_server_url: str, tmp_path_factory: pytest.TempPathFactory, models: list[str]) -> Iterator[Stack]:
    with Stack(own_server_url, echo_models(tmp_path_factory.mktemp("top"), *models)) as stack:
        for model in models:
            stack.begin_consumer(model)
        stack.start_front_end()
        for model in models:
            stack.wait(model)
        yield stack


def test_a_terminal_is_filled_resized_and_given_back(stack: Stack, models: list[str]) -> None:
    first, second = models
    with Screen([*TOP, "--url", stack.url], 80, 24, COLUMNS="200", LINES="9") as screen:
        frame = screen.until(lambda frame: any(line.startswith(f">{first}") for line in frame))
        assert max(map(len, frame)) <= 80
        assert len(frame) <= 24
        assert frame[0].startswith(f"headrace top  {stack.url}")
        assert "health: " in frame[0]
        assert any(line.startswith("WORKER") for line in frame)
        assert any(line.startswith("LANE") for line in frame)
        assert "\x1b[?1049h" in screen.written
        assert "\x1b[1m" in screen.written
        screen.press("\t")
        screen.until(lambda frame: any(line.startswith(f">{second}") for line in frame))
        screen.press("\x1b[A")
        screen.until(lambda frame: any(line.startswith(f">{first}") for line in frame))
        screen.resize(46, 8)
        screen.until(lambda frame: len(frame) <= 8 and max(map(len, frame)) <= 46 and frame[-1].startswith("q quits"))
        screen.resize(120, 50)
        screen.until(lambda frame: any("GOOD" in line and "BUSY" in line for line in frame))
        screen.press("q")
        assert screen.end() == 0
        assert screen.is_given_back
        assert "Traceback" not in screen.written


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_gives_the_terminal_back(stack: Stack, number: signal.Signals) -> None:
    with Screen([*TOP, "--url", stack.url], 80, 24, NO_COLOR="1") as screen:
        screen.until(lambda frame: any(line.startswith("WORKER") for line in frame))
        assert "\x1b[1m" not in screen.written
        screen.interrupt(number)
        assert screen.end() == 0
        assert screen.is_given_back
        assert "Traceback" not in screen.written


def test_it_stops_and_goes_on_like_other_programs(stack: Stack) -> None:
    with Screen([*TOP, "--url", stack.url], 80, 24) as screen:
        screen.until(lambda frame: any(line.startswith("WORKER") for line in frame))
        screen.press("\x1a")
        screen.until(lambda _: screen.is_given_back)
        screen.interrupt(signal.SIGCONT)
        screen.until(lambda _: screen.written.count("\x1b[?1049h") == 2 and not screen.is_given_back)
        screen.press("q")
        assert screen.end() == 0
        assert screen.is_given_back


def test_it_survives_a_front_end_that_goes_and_comes(own_server_url: str, tmp_path: Path) -> None:
    with Stack(own_server_url, echo_models(tmp_path)) as stack:
        front_end = stack.start_front_end()
        port = int(stack.url.rpartition(":")[2])
        with Screen([*TOP, "--url", stack.url], 80, 24) as screen:
            screen.until(lambda frame: "health:" in frame[0] and "Redis" in frame[1])
            front_end.terminate()
            screen.until(lambda frame: "No front end answers" in frame[1] or "has ended the stream" in frame[1])
            stack.serve_on(port)
            screen.until(lambda frame: "health:" in frame[0] and frame[1].startswith("Redis"))
            screen.press("q")
            assert screen.end() == 0


def once(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOP, *arguments],
        cwd=ROOT,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_without_a_terminal_it_prints_once(stack: Stack, models: list[str]) -> None:
    done = once(HEADRACE_PORT=stack.url.rpartition(":")[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert f">{models[0]}" in done.stdout
    document = json.loads(once("--url", stack.url, "--model", models[1], "--json").stdout)
    assert document["model"]["name"] == models[1]


def test_what_is_wrong_is_one_sentence(stack: Stack, models: list[str]) -> None:
    unknown = once("--url", stack.url, "--model", models[0] + "x", "--once")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("headrace: There is no model")
    assert f"Did you mean {models[0]}?" in unknown.stderr
    nobody = once("--url", "http://127.0.0.1:1")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert nobody.stderr.startswith("headrace: No front end answers at http://127.0.0.1:1")
