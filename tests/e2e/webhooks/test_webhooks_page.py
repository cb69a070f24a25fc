"""The commands of docs/webhooks.md: the receiver, the request, the operator's commands, and how a secret is rotated."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.redis.embedded import free_port
from tests.children import ROOT, clean_environment
from tests.e2e.later.client import Client
from tests.e2e.stack import Process, Stack, echo_models

PAGE = (ROOT / "docs/webhooks.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
[RECEIVER] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MODEL = "hook-page-echo"


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    models = echo_models(tmp_path_factory.mktemp("models"), MODEL)
    with Stack(valkey_url, models, PRIVATE_NETWORKS="127.0.0.1") as running:
        running.start_consumer(MODEL)
        yield running


def run(command: str, **environment: str) -> str:
    """What a command of the page prints."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", re.sub("^headrace ", f"{sys.executable} -m headrace ", command)],
        cwd=ROOT,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def secret() -> str:
    """What the page's command makes."""
    return run(COMMANDS[0]).strip()


@contextmanager
def front_end(stack: Stack, secrets: str) -> Iterator[None]:
    """The only one: another one would sign with its own secrets."""
    process = stack.start_front_end(WEBHOOK_SECRETS=secrets)
    try:
        stack.wait(MODEL)
        yield
    finally:
        process.terminate()


@contextmanager
def receiver(folder: Path, key: str) -> Iterator[tuple[Process, int]]:
    """The page's receiver, on a free port."""
    port, path = free_port(), folder / "receiver.py"
    path.write_text(RECEIVER.replace("9000", str(port)))
    process = Process([str(path)], {"WEBHOOK_SECRET": key})
    try:
        yield process, port
    finally:
        process.close()


def test_the_page_s_receiver_verifies_what_the_page_s_request_brings(stack: Stack, tmp_path: Path) -> None:
    [curl] = [command for command in COMMANDS if command.startswith("curl")]
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    key = secret()
    with front_end(stack, key), receiver(tmp_path, key) as (process, port):
        there = curl.replace("http://127.0.0.1:8000", stack.url).replace("127.0.0.1:9000", f"127.0.0.1:{port}")
        assert "202 Accepted" in run(there.replace("/echo/", f"/{MODEL}/"))
        assert process.until("request.succeeded report-7")


def test_while_a_secret_is_rotated_receivers_verify_with_either(stack: Stack, tmp_path: Path) -> None:
    assert "`HEADRACE_WEBHOOK_SECRETS=whsec_NEW,whsec_OLD`" in PAGE
    old, new = secret(), secret()
    assert old != new
    with front_end(stack, f"{new},{old}"):
        for number, key in enumerate((old, new)):
            with receiver(tmp_path, key) as (process, port):
                hooked = {"Headrace_Webhook": f"http://127.0.0.1:{port}/hook"}
                assert Client(stack).ask(MODEL, b"1234", f"?id=rotated-{number}", **hooked).status == 202
                assert process.until(f"request.succeeded rotated-{number}")


def test_a_lane_s_secrets_follow_from_the_setting(valkey_url: str) -> None:
    [command] = [command for command in COMMANDS if "--lane gold" in command]
    key = secret()
    first, second = (run(command, HEADRACE_WEBHOOK_SECRETS=f"{key},{secret()}").split() for _ in "12")
    assert len(first) == 2
    assert first[0] == second[0] != first[1]
    assert key not in first


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if re.search("webhooks (list|retry|drop)", command)]
)
def test_the_operators_commands_run(stack: Stack, valkey_url: str, command: str) -> None:
    printed = run(command.replace("imagenet", MODEL), HEADRACE_REDIS_URL=valkey_url)
    assert printed.startswith("headrace: ")
