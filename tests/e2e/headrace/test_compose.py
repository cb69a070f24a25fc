"""The compose stack, built and run for real: HEADRACE_TEST_COMPOSE=1 pytest -m compose -s.

The stack gets a project name and ports of its own, so that it disturbs no other; its volumes go at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.redis import acl
from shared.redis.embedded import free_port
from tests.helpers import eventually

ROOT = Path(__file__).parents[3]

pytestmark = [
    pytest.mark.compose,
    pytest.mark.timeout(1500),  # building the consumer's image downloads PyTorch
    pytest.mark.xdist_group("compose"),
    pytest.mark.skipif(os.environ.get("HEADRACE_TEST_COMPOSE") != "1", reason="HEADRACE_TEST_COMPOSE=1 is not set"),
]


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack: its command line, environment and addresses."""

    command: tuple[str, ...]
    environment: dict[str, str]
    url: str
    prometheus_url: str
    first_answers: list[tuple[int, str]] = field(default_factory=list)

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one compose command; its output is the test's own."""
        return subprocess.run([*self.command, *arguments], cwd=ROOT, env=self.environment, text=True, check=check)

    def output(self, *arguments: str) -> str:
        """Run one compose command and return what it printed."""
        done = subprocess.run(
            [*self.command, *arguments], cwd=ROOT, env=self.environment, text=True, check=True, capture_output=True
        )
        return done.stdout

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine says of the container of ``service``."""
        identity = self.output("ps", "-q", service).strip()
        inspected = subprocess.run(["docker", "inspect", identity], text=True, check=True, capture_output=True)
        details: dict[str, Any] = json.loads(inspected.stdout)[0]
        return details

    def inside(self, service: str, *command: str) -> str:
        """Run a command in the container of ``service`` and return what it printed."""
        return self.output("exec", "-T", service, *command)


def _compose_command() -> tuple[str, ...]:
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ("docker", "compose")
    if shutil.which("docker-compose"):
        return ("docker-compose",)
    pytest.fail("neither `docker compose` nor `docker-compose` is installed")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    port, prometheus_port = free_port(), free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    stack = Stack(
        command=(*_compose_command(), "-p", f"headrace-test-{os.getpid()}", "-f", "compose.yaml"),
        environment={**inherited, "HEADRACE_PORT": str(port), "PROMETHEUS_PORT": str(prometheus_port)},
        url=f"http://127.0.0.1:{port}",
        prometheus_url=f"http://127.0.0.1:{prometheus_port}",
    )
    try:
        stack.compose("build")
        stack.compose("up", "-d")
        stack.first_answers.extend(_until_ready(stack))
        yield stack
    finally:
        stack.compose("ps", check=False)
        stack.compose("logs", "--tail=40", check=False)
        stack.compose("down", "-v", "-t", "20", check=False)


def _wait(stack: Stack) -> None:
    subprocess.run(
        [sys.executable, "-m", "loadgen", "wait", "--url", stack.url, "--model", "imagenet"], cwd=ROOT, check=True
    )


def _until_ready(stack: Stack) -> list[tuple[int, str]]:
    """Ask again and again for the model until it answers; status and code of each answer before that."""
    found: list[tuple[int, str]] = []

    def answers() -> bool:
        try:
            _predict(stack, "cat.jpg", "?timeout_ms=1000")  # one with more time would wait for the first consumer
            return True
        except urllib.error.HTTPError as error:
            with error:
                found.append((error.code, json.loads(error.read())["error"]["code"]))
        except OSError:
            pass  # its port is not open yet
        return False

    eventually(answers, limit_s=300)
    return found


def _predict(stack: Stack, photo: str, query: str = "") -> dict[str, Any]:
    request = urllib.request.Request(
        f"{stack.url}/v1/models/imagenet/predict{query}",
        data=(ROOT / "examples" / "photos" / photo).read_bytes(),
        headers={"Content-Type": "image/jpeg"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


@pytest.mark.parametrize(
    ("photo", "label"), [("cat.jpg", "Egyptian cat"), ("coffee.jpg", "espresso"), ("rocket.jpg", "missile")]
)
def test_a_photograph_comes_back_with_its_label(stack: Stack, photo: str, label: str) -> None:
    assert _predict(stack, photo)["predictions"][0]["label"] == label


def test_until_it_answers_the_model_is_loading_and_never_unknown(stack: Stack) -> None:
    # Redis may be slower than the front end; what it knows then is nothing.
    before = {(503, "loading"), (503, "queue_unavailable"), (503, "no_worker")}
    last_second = {(504, "expired"), (504, "unknown_outcome")}
    assert set(stack.first_answers) <= before | last_second
    assert (503, "loading") in stack.first_answers


@pytest.mark.parametrize("service", ["producer_api", "consumer"])
def test_nothing_is_compiled_at_the_start(stack: Stack, service: str) -> None:
    show = "import os, json, click, shared.keys as k; print([os.path.exists(m.__cached__) for m in (json, click, k)])"
    assert stack.inside(service, "python", "-c", show).strip() == "[True, True, True]"


def test_nothing_but_the_api_and_prometheus_is_published(stack: Stack) -> None:
    for service in ("redis", "consumer", "producer_api", "prometheus"):
        bindings = stack.container(service)["HostConfig"]["PortBindings"] or {}
        addresses = {binding["HostIp"] for published in bindings.values() for binding in published}
        assert addresses == ({"127.0.0.1"} if service in ("producer_api", "prometheus") else set())


def test_our_processes_run_without_rights_and_the_front_end_without_pytorch(stack: Stack) -> None:
    for service in ("producer_api", "consumer"):
        assert stack.inside(service, "python", "-c", "import os; print(os.getuid())").strip() == "10001"
    has_torch = "import importlib.util as u; print(u.find_spec('torch') is not None)"
    assert stack.inside("producer_api", "python", "-c", has_torch).strip() == "False"
    assert stack.inside("consumer", "python", "-c", has_torch).strip() == "True"


def test_no_container_can_do_more_than_it_needs(stack: Stack) -> None:
    for service in ("redis", "consumer", "producer_api", "prometheus"):
        details = stack.container(service)["HostConfig"]
        assert details["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in details["SecurityOpt"]
        assert details["PidsLimit"] > 0
        assert details["Memory"] > 0 or service == "consumer"
        assert details["ReadonlyRootfs"] == (service != "consumer")


def test_each_password_lies_where_only_its_program_reads_it(stack: Stack) -> None:
    password = stack.output("run", "--rm", "-T", "--entrypoint", "cat", "users", "/access/grafana/password").strip()
    assert len(password) > 30
    for service in ("producer_api", "consumer", "redis", "prometheus"):
        assert stack.inside(service, "sh", "-c", "cat /access/grafana/password 2>/dev/null || echo none") == "none\n"


@pytest.mark.parametrize(("service", "arguments"), [("producer_api", ()), ("consumer", ("consumer",))])
def test_health_checks_go_through_no_proxy(stack: Stack, service: str, arguments: tuple[str, ...]) -> None:
    proxies = [part for name in ("http_proxy", "HTTP_PROXY") for part in ("-e", f"{name}=http://127.0.0.1:1")]
    said = stack.output("exec", "-T", *proxies, service, "python", "-m", "headrace", "probe", *arguments)
    assert said.endswith(" is ready.\n")
    # The engine asks every ten seconds.
    eventually(lambda: stack.container(service)["State"]["Health"]["Status"] == "healthy", limit_s=60)


AS_ITSELF = """
import json, os, sys
from shared.redis.client import RedisError, connect

def plain(value):
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value

found = []
with connect(os.environ["HEADRACE_REDIS_URL"]) as client:
    for command in json.loads(sys.argv[1]):
        try:
            found.append(plain(client.execute_command(*command)))
        except RedisError as error:
            found.append(str(error))
print(json.dumps(found, default=str))
"""


def _asked(stack: Stack, service: str, *commands: tuple[str, ...], run: bool = False) -> list[Any]:
    """What Redis answers to a service, or refuses it with."""
    program = ("python", "-c", AS_ITSELF, json.dumps(commands))
    said = stack.output("run", "--rm", "-T", service, *program) if run else stack.inside(service, *program)
    answers: list[Any] = json.loads(said.splitlines()[-1])
    return answers


def test_redis_runs_as_a_queue_and_holds_the_functions(stack: Stack) -> None:
    wanted = {"save": "", "appendonly": "yes", "maxmemory-policy": "noeviction"}
    asked = [("CONFIG", "GET", name) for name in wanted]
    *settings, listed, clients = _asked(stack, "functions", *asked, ("FUNCTION", "LIST"), ("CLIENT", "LIST"), run=True)
    assert [one[name] if isinstance(one, dict) else one[1] for name, one in zip(wanted, settings, strict=True)] == [
        *wanted.values()
    ]
    assert "hr1_admit" in str(listed)
    assert {"front_end", "consumer"} <= set(re.findall(r"user\W+(\w+)", str(clients))) <= {*acl.ROLES}


def test_nobody_gets_in_without_a_password(stack: Stack) -> None:
    assert "NOAUTH" in stack.inside("redis", "redis-cli", "ping")


@pytest.mark.parametrize("service", ["producer_api", "consumer"])
def test_what_a_process_must_not_do_in_redis(stack: Stack, service: str) -> None:
    work = "hr:{imagenet}:q:default"
    forbidden = [("FLUSHALL",), ("CONFIG", "GET", "*"), ("FUNCTION", "FLUSH"), ("KEYS", "*"), ("ACL", "LIST")]
    forbidden += [("XGROUP", "DESTROY", work, "workers"), ("SET", "other", "1")]
    forbidden += [("RPUSH" if service == "producer_api" else "XGROUP", "hr:{imagenet}:r:default:x", "forged")]
    for refused in _asked(stack, service, *forbidden):
        assert re.search("(?i)permissions|unknown subcommand", str(refused)), refused
    assert _predict(stack, "cat.jpg")["predictions"]


def test_each_password_is_seen_by_its_own_process_only_and_never_written(stack: Stack) -> None:
    logs = stack.output("logs", "--no-color")
    for service, role in (("producer_api", "front_end"), ("consumer", "consumer")):
        password = stack.inside(service, "cat", f"/access/{role}/password").strip()
        assert len(password) > 30
        assert password not in logs
        for other in {"front_end", "consumer", "administrator", "operator"} - {role}:
            shown = stack.inside(service, "sh", "-c", f"cat /access/{other}/password 2>/dev/null || echo none")
            assert shown.strip() == "none"


OWN_MODEL = """
from headrace.model import TextModel


class Lengths(TextModel):
    size = 1

    def load(self, device, precision):
        pass

    def compute(self, texts):
        return [[len(text)] for text in texts]
"""


def test_an_operator_looks_and_pauses(stack: Stack) -> None:
    def operator(*arguments: str) -> Any:
        return json.loads(stack.output("run", "--rm", "-T", "operator", *arguments, "--json"))

    assert [one["model"] for one in operator("status", "--interval", "0")["models"]] == ["imagenet"]
    assert {one["state"] for one in operator("doctor")["findings"]} <= {"ok", "unknown"}
    assert operator("pause", "imagenet")["outcome"] == "done"
    assert operator("resume", "imagenet")["outcome"] == "done"
    assert _predict(stack, "cat.jpg")["predictions"]


def test_prometheus_sees_every_process(stack: Stack) -> None:
    # Asked until both are up: the first lookups of names and the first scrapes take a few seconds.
    def up() -> set[str]:
        with urllib.request.urlopen(f"{stack.prometheus_url}/api/v1/query?query=up", timeout=10) as response:
            result = json.load(response)["data"]["result"]
        return {series["metric"]["job"] for series in result if series["value"][1] == "1"}

    assert eventually(lambda: {"producer_api", "consumer"} <= up(), limit_s=60)


def test_promtool_accepts_the_configuration_and_the_metrics_of_both_sides(stack: Stack) -> None:
    stack.inside("prometheus", "promtool", "check", "config", "/etc/prometheus/prometheus.yml")
    stack.inside("prometheus", "promtool", "test", "rules", "/etc/prometheus/tests/health.yml")
    show = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode(), end='')"
    for service, port in (("producer_api", 8000), ("consumer", 9101)):
        metrics = stack.inside(service, "python", "-c", show, f"http://127.0.0.1:{port}/metrics")
        command = [*stack.command, "exec", "-T", "prometheus", "promtool", "check", "metrics"]
        checked = subprocess.run(
            command, cwd=ROOT, env=stack.environment, input=metrics, capture_output=True, text=True
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_restarted_redis_keeps_the_functions_and_what_was_accepted_and_the_service_returns(stack: Stack) -> None:
    def stands() -> int:
        try:
            with urllib.request.urlopen(f"{stack.url}/v1/models/imagenet/requests/survives", timeout=20) as answer:
                return int(answer.status)
        except OSError as error:
            return getattr(error, "code", 0)

    def until(status: int) -> None:
        eventually(lambda: stands() == status, limit_s=60)

    def send() -> None:
        with contextlib.suppress(OSError):  # the answer is asked for afterwards
            _predict(stack, "cat.jpg", "?id=survives&timeout_ms=60000")

    stack.output("run", "--rm", "-T", "operator", "pause", "imagenet")
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    until(202)
    stack.compose("restart", "-t", "5", "redis")
    until(202)
    stack.output("run", "--rm", "-T", "operator", "resume", "imagenet")
    until(200)
    sender.join()
    _wait(stack)
    assert _predict(stack, "cat.jpg")["predictions"][0]["label"] == "Egyptian cat"


def test_an_image_of_ones_own_takes_two_lines(stack: Stack, tmp_path: Path) -> None:
    """What docs/compose.md says, beside the running stack: its front ends find the model by themselves."""
    [dockerfile] = re.findall(r"```dockerfile\n(.*?)```", (ROOT / "docs/compose.md").read_text(), re.DOTALL)
    (tmp_path / "Dockerfile").write_text(dockerfile.replace("Flowers", "Lengths"))
    (tmp_path / "my_model.py").write_text(OWN_MODEL)
    image = f"headrace-own-{os.getpid()}"
    subprocess.run(["docker", "build", "-t", image, tmp_path], check=True)
    try:
        # As compose starts it, from another image and with that image's own command.
        override = {"services": {"consumer-own": {"image": image, **_but_for_its_image()}}}
        (tmp_path / "own.yaml").write_text(json.dumps(override))
        own = replace(stack, command=(*stack.command, "-f", str(tmp_path / "own.yaml")))
        own.compose("up", "-d", "--no-deps", "consumer-own")
        request = urllib.request.Request(
            f"{stack.url}/v1/models/lengths/predict", b"twelve bytes", {"Content-Type": "text/plain"}
        )
        answers: list[Any] = []

        def has_answered() -> bool:
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=30) as answered:
                answers.append(json.load(answered))
            return bool(answers)

        eventually(has_answered, 120)
        assert answers[0]["outputs"][0]["data"] == [12.0]
        own.compose("rm", "-s", "-f", "consumer-own")
    finally:
        subprocess.run(["docker", "image", "rm", "-f", image], check=True)


def _but_for_its_image() -> dict[str, Any]:
    consumer = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["consumer"]
    return {name: consumer[name] for name in ("environment", "volumes", "cap_drop", "security_opt", "init")}
