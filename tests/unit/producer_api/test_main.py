"""``python -m producer_api`` as a process; Redis is away, which a front end must bear."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from producer_api.http import server
from shared.net.exposure import reaches_beyond
from shared.redis.embedded import free_port
from shared.settings import SettingsError


@contextmanager
def _process(settings: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "producer_api"], env={**kept, **settings}, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _refusal(settings: Mapping[str, str]) -> str:
    with _process(settings) as process:
        _, text = process.communicate(timeout=20)
        assert process.returncode == 2
        assert len(text.splitlines()) == 1
        return text


@pytest.mark.parametrize(
    ("name", "value"), [("HEADRACE_PORT", "none"), ("HEADRACE_POTR", "8000"), ("HEADRACE_HOST", "256.1.1.1")]
)
def test_a_wrong_setting_is_one_sentence_and_exit_2(name: str, value: str) -> None:
    text = _refusal({name: value})
    assert value in text or name in text


def test_a_port_in_use_is_one_sentence_and_exit_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"Port {port} of 127.0.0.1 is in use" in _refusal({"HEADRACE_PORT": str(port)})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_without_redis_and_ends_with_0_when_told(number: signal.Signals) -> None:
    redis = f"redis://127.0.0.1:{free_port()}/0"
    with _process({"HEADRACE_PORT": "0", "HEADRACE_REDIS_URL": redis, "GIT_COMMIT": "abc"}) as process:
        assert process.stderr is not None
        address = ""
        while "Serving on http://" not in address:
            address = process.stderr.readline()
            assert address, "it ended before it served"
        url = "http://" + address.partition("Serving on http://")[2].strip().rstrip(".")
        with urllib.request.urlopen(f"{url}/version", timeout=10) as response:
            assert json.load(response)["commit"] == "abc"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/readyz", timeout=10)
        with caught.value:
            assert caught.value.code == 503
            assert json.load(caught.value)["redis"] is False
        process.send_signal(number)
        assert process.wait(timeout=20) == 0


def test_json_lines_on_stderr_without_the_password_of_redis() -> None:
    settings = {
        "HEADRACE_PORT": "0",
        "HEADRACE_REDIS_URL": f"redis://:S3cret@127.0.0.1:{free_port()}/0",
        "HEADRACE_LOG_FORMAT": "json",
        "HEADRACE_LOG_LEVEL": "debug",
    }
    with _process(settings) as process:
        assert process.stderr is not None
        lines: list[dict[str, object]] = []
        while not lines or "Serving on" not in str(lines[-1]["message"]):
            lines.append(json.loads(process.stderr.readline()))
    assert (lines[-1]["level"], lines[-1]["process"]) == ("info", process.pid)
    assert "S3cret" not in str(lines)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_reach_needs_keys_or_a_word_from_the_operator(host: str) -> None:
    port = str(free_port())
    text = _refusal({"HEADRACE_HOST": host, "HEADRACE_PORT": port})
    for part in ("HEADRACE_HOST", host, "HEADRACE_KEYS_FILE", "HEADRACE_ALLOW_ANONYMOUS=1"):
        assert part in text


@pytest.mark.parametrize("by_keys", [True, False])
def test_with_either_it_listens_there(tmp_path: Path, by_keys: bool) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'[keys.a]\nsha256 = "{"0" * 64}"\n')
    allowed = {"HEADRACE_KEYS_FILE": str(file)} if by_keys else {"HEADRACE_ALLOW_ANONYMOUS": "1"}
    redis = f"redis://127.0.0.1:{free_port()}/0"
    with _process(
        {"HEADRACE_HOST": "0.0.0.0", "HEADRACE_PORT": "0", "HEADRACE_REDIS_URL": redis, **allowed}
    ) as process:
        assert process.stderr is not None
        while line := process.stderr.readline():
            if "Serving on http://0.0.0.0:" in line:
                break
        assert line, "it ended before it served"


def test_a_file_of_keys_that_cannot_be_used_is_one_sentence_and_exit_2(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text("[keys.a]\n")
    text = _refusal({"HEADRACE_KEYS_FILE": str(file), "HEADRACE_PORT": "0"})
    assert "keys.a.sha256 must be 64 hexadecimal digits" in text


@pytest.mark.parametrize(
    ("host", "beyond"),
    [("127.0.0.1", False), ("127.3.2.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("::", True),
     ("192.0.2.1", True), ("256.1.1.1", False)],
)  # fmt: skip
def test_which_addresses_others_reach(host: str, beyond: bool) -> None:
    assert reaches_beyond(host) is beyond


def test_an_address_that_cannot_be_taken() -> None:
    with pytest.raises(SettingsError, match=r"Cannot listen on 192\.0\.2\.1"):
        server.bind("192.0.2.1", 0)


def test_one_line_per_event(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        server.configure_logging("info", "text")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logging.getLogger("headrace.test").exception("It failed.")
        logging.getLogger("headrace.test").debug("not shown")
    finally:
        root.handlers, root.level = handlers, level
        logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "ValueError: two\\nlines" in lines[0]
