from __future__ import annotations

import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from shared.redis.embedded import ServerConfig, answers, free_port
from tests.embedded import EmbeddedServer, answering_pid
from tests.unit.headrace.stacks import Running, wait_gone

RUN_UP = str(Path(__file__).with_name("run_up.py"))
MODELS = '[models.echo]\nfamily = "echo"\n\n[models.second]\nfamily = "echo"\n'


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings of a stack of its own: free ports, a data folder and a models file of its own."""
    (tmp_path / "models.toml").write_text(MODELS)
    return {
        "HEADRACE_DATA_DIR": str(tmp_path / "data"),
        "HEADRACE_MODELS_FILE": str(tmp_path / "models.toml"),
        "HEADRACE_MODELS": "echo",
        "HEADRACE_PORT": "0",
        "HEADRACE_REDIS_PORT": "0",
        "HEADRACE_METRICS_PORT": "0",
    }


def _up(environment: dict[str, str], **changes: str) -> Running:
    return Running([sys.executable, RUN_UP], {**environment, **changes})


def _ready(stack: Running, services: int) -> None:
    """Wait for the banner and for the arguments of so many stand-ins; which of these comes last is open."""
    for _ in range(services + 1):
        stack.until(r"Ctrl-C stops everything|\| args ")


def test_it_prints_where_everything_is_and_stops_redis_last(environment: dict[str, str]) -> None:
    with _up(environment, HEADRACE_MODELS="echo,second") as stack:
        _ready(stack, 3)
        redis_port = int(re.search(r"redis://127\.0\.0\.1:(\d+)/0 \(for direct", stack.output).group(1))  # type: ignore[union-attr]
        assert answers(redis_port)
        assert re.search(r"API +http://127\.0\.0\.1:\d+$", stack.output, re.MULTILINE)
        assert re.search(r"consumer echo +\| args --model echo --index 0 redis://", stack.output)
        assert re.search(r"consumer second +\| args --model second --index 1 redis://", stack.output)
        stack.signal(signal.SIGINT)
        assert stack.end() == 0
        assert not answers(redis_port)
        assert stack.output.count("| stopped") == 3


def test_no_redis_is_started_where_one_is_named(environment: dict[str, str], tmp_path: Path) -> None:
    with (
        EmbeddedServer(ServerConfig(tmp_path / "theirs", free_port(), "no")) as theirs,
        _up(environment, HEADRACE_REDIS_URL=theirs.url) as stack,
    ):
        _ready(stack, 2)
        assert f"--index 0 {theirs.url}" in stack.output
        assert "starting consumer echo, producer_api." in stack.output
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
        assert answers(theirs.config.port)


def test_the_embedded_redis_goes_when_up_is_killed(environment: dict[str, str]) -> None:
    with _up(environment) as stack:
        port = int(stack.until(r"redis://127\.0\.0\.1:(\d+)/0 \(for direct").group(1))
        pid = answering_pid(port)
        assert pid is not None
        stack.signal(signal.SIGKILL)
        wait_gone([pid])


def test_a_second_up_on_the_same_data_says_so(environment: dict[str, str]) -> None:
    with _up(environment) as first:
        first.until(r"Ctrl-C stops everything")
        with _up(environment) as second:
            assert second.end() == 2
            assert f"is in use by another `headrace up` (process {first.process.pid})" in second.output
        first.signal(signal.SIGTERM)
        assert first.end() == 0


def test_what_kubernetes_sets_for_a_service_of_our_name_is_told_once_and_ignored(environment: dict[str, str]) -> None:
    links = {
        "HEADRACE_UI_SERVICE_HOST": "10.0.0.7",
        "HEADRACE_API_METRICS_PORT": "tcp://10.0.0.7:9101",
        "HEADRACE_UI_PORT_8000_TCP_ADDR": "10.0.0.7",
    }
    with _up(environment, **links) as stack:
        _ready(stack, 2)
        assert (
            stack.output.count("headrace: Ignored HEADRACE_API_METRICS_PORT, HEADRACE_UI_PORT_8000_TCP_ADDR and 1") == 1
        )
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0


@pytest.mark.parametrize("setting", ["HEADRACE_PORT", "HEADRACE_REDIS_PORT", "HEADRACE_METRICS_PORT"])
def test_a_port_in_use_is_one_sentence_and_exit_2(environment: dict[str, str], setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with _up(environment, **{setting: port}) as stack:
            assert stack.end() == 2
            reason = f"port {port} on 127.0.0.1 is in use by another process; stop it or choose another port"
            assert stack.lines == [f"headrace: {setting}: {reason}."]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"HEADRACE_PROT": "8000"}, "HEADRACE_PROT is not a setting"),
        ({"HEADRACE_PORT": "many"}, "HEADRACE_PORT must be a whole number"),
        ({"HEADRACE_CONSUMERS": "-1"}, "HEADRACE_CONSUMERS must lie between 0 and 256, not -1."),
        ({"HEADRACE_CONSUMERS": "1000"}, "HEADRACE_CONSUMERS must lie between 0 and 256, not 1000."),
        (
            {"HEADRACE_CONSUMERS": "200", "HEADRACE_METRICS_PORT": "65400"},
            "HEADRACE_METRICS_PORT: 200 consumers need the ports 65400 to 65599, and the last port there is is 65535",
        ),
        ({"HEADRACE_PIN": "on"}, "HEADRACE_PIN must be one of auto, off, not 'on'."),
        ({"HEADRACE_PRECISION": "fp8"}, "HEADRACE_PRECISION must be one of "),
        ({"HEADRACE_MODELS": "dog"}, "'dog' is not in"),
        ({"HEADRACE_MODELS_FILE": "/no/such/models.toml"}, "/no/such/models.toml cannot be read"),
        ({"HEADRACE_REDIS_URL": "redis://127.0.0.1:1/0"}, "HEADRACE_REDIS_URL: no Redis at 127.0.0.1:1"),
    ],
)
def test_a_wrong_setting_is_one_sentence_and_exit_2(
    environment: dict[str, str], changes: dict[str, str], sentence: str
) -> None:
    with _up(environment, **changes) as stack:
        assert stack.end() == 2
        assert len(stack.lines) == 1
        assert sentence in stack.lines[0]
