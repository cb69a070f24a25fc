"""Several front ends on one port, started by hand: real processes, real signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.api_keys import digest_of
from shared.net.listener import can_share
from shared.redis.embedded import free_port
from tests.children import clean_environment
from tests.e2e.headrace.test_up import UP
from tests.e2e.http_server import Connection
from tests.e2e.producer_api.sharing import Client, Crowd, to_each
from tests.e2e.stack import Process, Stack, call, echo_models
from tests.fault.site import Site
from tests.helpers import eventually
from tests.perf.processes import children
from tests.unit.headrace.stacks import Running, own_stack, wait_gone

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not can_share(), reason="this system deals no port out"),
]


@dataclass
class Pair:
    """A port and the front ends that share it, two when a test begins, with a consumer behind them."""

    stack: Stack
    model: str
    port: int
    front_ends: list[Process] = field(default_factory=list)

    def start(self) -> Process:
        """Start one more."""
        self.front_ends.append(self.stack.serve_on(self.port))
        return self.front_ends[-1]

    def restore(self) -> None:
        """Start another for each that has ended, and wait until both serve."""
        self.front_ends = [one for one in self.front_ends if one.popen.poll() is None]
        while len(self.front_ends) < 2:
            self.start()
        self.stack.url = f"http://127.0.0.1:{self.port}"
        self.stack.wait(self.model)
        for connections in to_each(self.port, [one.popen.pid for one in self.front_ends]).values():
            connections[0].__exit__()


@pytest.fixture(scope="module")
def shared_pair(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder, model = tmp_path_factory.mktemp("pair"), f"pair-{os.getpid()}"
    with Stack(valkey_url, echo_models(folder, model), FRONT_ENDS="2", DATA_DIR=str(folder / "data")) as stack:
        stack.start_consumer(model)
        yield Pair(stack, model, free_port())


@pytest.fixture
def pair(shared_pair: Pair) -> Pair:
    """One for all tests."""
    shared_pair.restore()
    return shared_pair


def _metrics_of(process: Process) -> str:
    address = process.until("Metrics at ").rpartition("Metrics at ")[2].rstrip(".")
    with urllib.request.urlopen(address, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _answered(process: Process, model: str) -> float:
    series = f'headrace_requests_total{{model="{model}",outcome="ok"}} '
    return sum(float(line[len(series) :]) for line in _metrics_of(process).splitlines() if line.startswith(series))


def _number(process: Process) -> str:
    return process.until(" of at most 2").partition("front end ")[2][:1]


def test_two_started_by_hand_share_the_port_and_a_third_is_refused(pair: Pair) -> None:
    first, second = pair.front_ends
    port, number = pair.port, _number(first)
    assert {number, _number(second)} == {"1", "2"}
    third = pair.stack.begin_front_end(port)
    assert third.popen.wait() == 2
    assert third.output() == (
        f"Port {port} of 127.0.0.1 is in use by 2 front ends, as many as HEADRACE_FRONT_ENDS lets share it."
    )
    assert first.terminate() == 0
    assert _number(pair.start()) == number


@pytest.mark.soak
@pytest.mark.parametrize("settings", [{"FRONT_ENDS": "1"}, {"FRONT_ENDS": "0"}])
def test_one_that_is_to_be_alone_does_not_share(pair: Pair, settings: dict[str, str]) -> None:
    alone = pair.stack.begin_front_end(pair.port, **settings)
    assert alone.popen.wait() == 2
    assert alone.output() == f"Port {pair.port} of 127.0.0.1 is in use; HEADRACE_PORT chooses another."


def test_another_program_on_the_port_is_refused_with_the_sentence_there_always_was(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as stranger:
        port = stranger.getsockname()[1]
        refused = pair.stack.begin_front_end(port)
        assert refused.popen.wait() == 2
        assert refused.output() == f"Port {port} of 127.0.0.1 is in use; HEADRACE_PORT chooses another."


def test_each_counts_for_itself_and_the_port_says_so(pair: Pair) -> None:
    port, model_name, both = pair.port, pair.model, pair.front_ends
    before = [_answered(process, model_name) for process in both]
    with Crowd([Client(model_name, port) for _ in range(2)]) as crowd:
        eventually(lambda: crowd.answered > 40, limit_s=40)
    assert crowd.failed == []
    grown = [_answered(process, model_name) - old for process, old in zip(both, before, strict=True)]
    assert sum(grown) == crowd.answered
    assert min(grown) > 0
    refusal = call(f"http://127.0.0.1:{port}/metrics")
    assert (refusal.status, refusal.body["error"]["code"]) == (404, "not_found")
    assert "HEADRACE_API_METRICS_PORT" in refusal.body["error"]["message"]


@pytest.mark.soak
def test_the_metrics_of_each_are_at_the_port_of_its_number_and_so_is_its_readiness(pair: Pair) -> None:
    port, first = free_port(), free_port()
    one, two = (pair.stack.serve_on(port, API_METRICS_PORT=str(first), DRAIN_S="600") for _ in range(2))
    assert one.until(f"Metrics at http://127.0.0.1:{first}/metrics")
    assert two.until(f"Metrics at http://127.0.0.1:{first + 1}/metrics")

    def status(path: str) -> list[int]:
        found = []
        for number in (first, first + 1):
            with Connection(number) as connection:
                connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                found.append(connection.response()[0])
        return found

    eventually(lambda: status("/readyz") == [200, 200])
    one.signal(signal.SIGTERM)
    one.until("Draining for 600 s")
    assert status("/readyz") == [503, 200]
    assert status("/healthz") == [200, 200]
    one.close()
    two.close()


@pytest.mark.fault
def test_a_kill_is_unnoticed_by_the_clients_of_the_other(pair: Pair) -> None:
    model_name, port, (doomed, other) = pair.model, pair.port, pair.front_ends
    kept = to_each(port, [doomed.popen.pid, other.popen.pid], 3)
    theirs = [Client(model_name, port, connection) for connection in kept[other.popen.pid]]
    lost = [Client(model_name, port, connection) for connection in kept[doomed.popen.pid]]
    new = [Client(model_name, port) for _ in range(3)]
    with Crowd([*theirs, *lost, *new]) as crowd:
        eventually(lambda: all(client.answered > 5 for client in crowd.clients), limit_s=40)
        doomed.signal(signal.SIGKILL)
        doomed.popen.wait()
        with Crowd([Client(model_name, port) for _ in range(2)]) as later:  # whoever connects from now on
            eventually(lambda: later.answered > 50, limit_s=40)
            before = later.answered
            again = pair.start()
            eventually(lambda: _answered(again, model_name) > 10, limit_s=40)
            eventually(lambda: later.answered > before + 50, limit_s=40)
    assert later.failed == []
    assert [client.failed for client in theirs] == [[]] * 3
    assert all(len(client.failed) == 1 for client in lost)
    # Of those that come and go each may have had one request with the process when it died; none was refused.
    assert [client.failed for client in new if client.failed not in ([], ["ended"], ["ConnectionResetError"])] == []
    for connections in kept.values():
        for connection in connections:
            connection.__exit__()


@pytest.mark.fault
def test_one_after_the_other_is_replaced_and_nobody_who_comes_notices(pair: Pair) -> None:
    model_name, port, old = pair.model, pair.port, list(pair.front_ends)
    with Crowd([Client(model_name, port) for _ in range(4)]) as crowd:
        for process in old:
            before = crowd.answered
            assert process.terminate() == 0
            eventually(lambda before=before: crowd.answered > before + 20, limit_s=40)  # type: ignore[misc]
            fresh = pair.start()
            eventually(lambda fresh=fresh: _answered(fresh, model_name) > 5, limit_s=40)  # type: ignore[misc]
    # The kernel resets what connects between the last look and the end of the listening, which are not one step.
    assert crowd.failed in ([], ["ConnectionResetError"])


@pytest.mark.fault
def test_what_waits_for_a_process_that_is_stopped_is_answered_when_it_is_told_to_end(pair: Pair) -> None:
    model_name, port, (stopped, other) = pair.model, pair.port, pair.front_ends
    stopped.signal(signal.SIGSTOP)
    connections = [Connection(port) for _ in range(16)]
    for number, connection in enumerate(connections):
        connection.post(model_name, b"%d" % number)
    stopped.signal(signal.SIGTERM)
    stopped.signal(signal.SIGCONT)
    for number, connection in enumerate(connections):
        status, _, answer = connection.response()
        assert (status, bytes(answer["outputs"][0]["data"])) == (200, b"%d" % number)
        connection.__exit__()
    assert stopped.popen.wait() == 0
    assert other.popen.poll() is None


def _ask(connection: Connection, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """Send a request with an id in its path; status and body of the answer."""
    head = f"{method} /v1/models/{path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\n"
    connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    status, _, answer = connection.response()
    return status, answer


@pytest.mark.soak  # a request is cancelled at another front end in tests/fault/producer_api/test_clients.py
def test_whatever_is_asked_by_id_does_not_matter_where(valkey_url: str, tmp_path: Path, model_name: str) -> None:
    """Answers, repeats and cancellations of requests that came to another process."""
    shared = {"FRONT_ENDS": "2", "DATA_DIR": str(tmp_path / "data")}
    with Site(valkey_url, model_name, tmp_path, **shared) as site, ThreadPoolExecutor(4) as pool, ExitStack() as opened:
        port = free_port()
        site.consumer()
        both = [site.stack.serve_on(port).popen.pid for _ in range(2)]
        site.stack.wait(model_name)
        found = to_each(port, both, 2)
        for connections in found.values():
            for connection in connections:
                opened.enter_context(connection)
        (here, here_too), (there, there_too) = (found[pid] for pid in both)

        held = site.hold()
        path = f"{model_name}/predict?timeout_ms=30000&id="
        waiting = [pool.submit(_ask, one, "POST", f"{path}first", b"hold") for one in (here, there)]
        eventually(lambda: site.pending() == 1, limit_s=30)
        second = pool.submit(_ask, here_too, "POST", f"{path}second", b"second")
        eventually(lambda: site.length() == 2, limit_s=30)
        assert _ask(there_too, "GET", f"{model_name}/requests/second")[0] == 202
        assert _ask(there_too, "DELETE", f"{model_name}/requests/second")[0] == 200
        status, body = second.result()
        assert (status, body["error"]["code"]) == (499, "cancelled")
        held.unlink()
        for status, body in (one.result() for one in waiting):
            assert (status, body["id"]) == (200, "first")
        for connection in (here, there):
            status, body = _ask(connection, "GET", f"{model_name}/requests/first")
            assert (status, body["id"]) == (200, "first")
            assert _ask(connection, "POST", f"{path}first", b"hold")[0] == 200
        assert (site.runs_of("hold"), site.runs_of("second")) == (1, 0)


def test_a_limit_of_a_key_is_each_front_ends_and_a_key_that_goes_is_gone_everywhere(
    valkey_url: str, tmp_path: Path, model_name: str
) -> None:
    keys = tmp_path / "keys.toml"
    entry = f'[keys.one]\nsha256 = "{digest_of(b"hr_key").hex()}"\nmax_in_flight = 1\n'
    keys.write_text(entry)
    shared = {"FRONT_ENDS": "2", "DATA_DIR": str(tmp_path / "data"), "KEYS_FILE": str(keys)}
    with Site(valkey_url, model_name, tmp_path, **shared) as site, ThreadPoolExecutor(2) as pool, ExitStack() as opened:
        port = free_port()
        site.consumer()
        both = [site.stack.serve_on(port).popen.pid for _ in range(2)]
        found = to_each(port, both, 2)
        for connections in found.values():
            for connection in connections:
                opened.enter_context(connection)

        def ask(connection: Connection, body: bytes) -> int:
            connection.post(model_name, body, "Authorization: Bearer hr_key\r\n")
            return connection.response()[0]

        eventually(lambda: [ask(one[0], b"x") for one in found.values()] == [200, 200], limit_s=40)
        held = site.hold()
        waiting = [pool.submit(ask, one[0], b"hold") for one in found.values()]
        eventually(lambda: site.length() == 2, limit_s=30)
        assert [ask(one[1], b"x") for one in found.values()] == [429, 429]
        held.unlink()
        assert [one.result() for one in waiting] == [200, 200]
        keys.write_text(entry.replace(digest_of(b"hr_key").hex(), "0" * 64))
        eventually(lambda: [ask(one[1], b"x") for one in found.values()] == [401, 401], limit_s=30)


@pytest.mark.fault
def test_up_starts_several_restarts_one_that_is_killed_and_lets_no_other_stack_in(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text('[models.echo]\nfamily = "echo"\n')
    settings = {**own_stack(tmp_path, "echo"), "HEADRACE_FRONT_ENDS": "2", "HEADRACE_ALLOWED_HOSTS": "test"}
    with Running(UP, settings) as stack, ExitStack() as opened:
        stack.until("Ctrl-C stops everything")
        port = int(shown(stack, r"API +http://127\.0\.0\.1:(\d+)"))
        ports = [int(shown(stack, rf":(\d+)/metrics \(producer_api {number}\)")) for number in (1, 2)]
        pids = front_ends_of(stack)
        assert sorted(pids) == [0, 1]

        same = {"HEADRACE_PORT": str(port), "HEADRACE_DATA_DIR": str(tmp_path / "other")}
        with Running(UP, {**settings, **same}) as second:
            assert second.end() == 2
            assert f"HEADRACE_PORT: port {port} on 127.0.0.1 is in use by another process" in second.output

        kept = to_each(port, pids.values(), 2)
        for connections in kept.values():
            for connection in connections:
                opened.enter_context(connection)
        theirs = [Client("echo", port, connection) for connection in kept[pids[1]]]
        with Crowd([*theirs, *(Client("echo", port) for _ in range(2))]) as crowd:
            eventually(lambda: all(client.answered > 5 for client in crowd.clients), limit_s=40)
            os.kill(pids[0], signal.SIGKILL)
            stack.until(r"headrace: producer_api 1 ended with code 137; starting it again in 0\.5 s")
            wait_gone([pids[0]])
            with Crowd([Client("echo", port) for _ in range(2)]) as later:
                stack.until(r"producer_api 1 \| .* Serving on ")
                fresh = front_ends_of(stack)
                assert fresh[1] == pids[1]
                before = later.answered
                eventually(lambda: later.answered > before + 20, limit_s=40)
        assert later.failed == []
        assert [client.failed for client in theirs] == [[], []]
        for connections in to_each(port, fresh.values()).values():
            opened.enter_context(connections[0])
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/metrics", timeout=10) as answer:
            assert b"headrace_requests_in_flight " in answer.read()
        probed = subprocess.run(
            [*UP[:-1], "probe", "--index", "1"],
            env=clean_environment(HEADRACE_API_METRICS_PORT=str(ports[0])),
            capture_output=True,
            text=True,
            check=True,
        )
        assert probed.stdout == f"The front-end at 127.0.0.1 port {ports[1]} is ready.\n"
        stack.signal(signal.SIGTERM)
        assert stack.end() == 0
        wait_gone(list(fresh.values()))


def shown(stack: Running, pattern: str) -> str:
    """What the banner shows."""
    found = re.search(pattern, stack.output)
    assert found, stack.output
    return found[1]


def front_ends_of(stack: Running) -> dict[int, int]:
    """The process ids of a stack's front ends by their number."""
    found = {}
    for child in children(stack.process.pid):
        if match := re.search(r"-m producer_api --index (\d+)", child.command):
            found[int(match[1])] = child.pid
    return found
