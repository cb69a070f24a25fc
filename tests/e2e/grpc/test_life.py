"""The listener from its start to its end: keys, TLS, a port that is taken, several front ends, draining."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import InferenceServerClient

from shared.api_keys import digest_of
from shared.redis.embedded import free_port
from tests.children import ROOT, clean_environment
from tests.e2e.producer_api.test_tls import certificate
from tests.helpers import eventually

from . import calls
from .calls import request
from .site import ECHO, GATE, Site, connected, echoed, number

MESSAGE: bytes = request(ECHO).SerializeToString()


@pytest.fixture(autouse=True)
def its_own_front_end(served: Site) -> Iterator[None]:
    """End what a test has started, and give the others' address back."""
    url, target, before = served.url, served.target, len(served._processes)
    yield
    for process in served._processes[before:]:
        process.close()
    del served._processes[before:]
    served.url, served.target = url, target


def test_every_method_but_two_needs_a_key_where_keys_are_required(served: Site, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[keys.alice]\nsha256 = "{digest_of(b"hr_alice").hex()}"\nmax_in_flight = 1\n')
    served.start_front_end(KEYS_FILE=str(keys))
    right, wrong = (("authorization", "Bearer hr_alice"),), (("authorization", "Bearer hr_bob"),)
    said = ("UNAUTHENTICATED", "A valid API key is needed: Authorization: Bearer KEY.")
    for metadata in ((), wrong, (*right, *right), (("authorization", "hr_alice"),)):
        for method in ("ModelInfer", "ModelMetadata", "ModelStreamInfer", "RepositoryModelLoad", "Nothing"):
            assert calls.status(served.target, MESSAGE, method, metadata=metadata) == said, (metadata, method)
        for method in ("ServerLive", "ServerReady"):
            assert calls.status(served.target, b"", method, metadata=metadata) == ("OK", "")
    eventually(lambda: calls.status(served.target, MESSAGE, metadata=right) == ("OK", ""))
    with InferenceServerClient(served.target) as client:
        answer = client.infer(ECHO, [echoed(4)], headers={"authorization": "Bearer hr_alice"})
        assert answer.as_numpy("output").tolist() == [[4]]
        with calls.channel(served.target) as own:
            made = request(GATE, "INT64", (1, 1), (-1).to_bytes(8, "little", signed=True))
            made.inputs[0].name = "number"
            held = own.unary_unary(calls.SERVICE + "ModelInfer").future(made.SerializeToString(), metadata=right)

            def refused() -> bool:
                code, text = calls.status(served.target, MESSAGE, metadata=right)
                return code == "RESOURCE_EXHAUSTED" and "Your key may have 1 requests waiting at a time." in text

            eventually(refused)
            held.cancel()
    served.gate.touch()
    eventually(lambda: calls.status(served.target, MESSAGE, metadata=right) == ("OK", ""))
    served.gate.unlink()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_is_served_as_over_http(served: Site, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "front-end")
    served.start_front_end(TLS_CERT_FILE=str(cert), TLS_KEY_FILE=str(key))
    with InferenceServerClient(served.target, ssl=True, root_certificates=str(cert)) as client:
        eventually(client.is_server_ready)
        assert client.infer(ECHO, [echoed(9)]).as_numpy("output").tolist() == [[9]]
    code, _ = calls.status(served.target, MESSAGE)
    assert code == "UNAVAILABLE"


def test_a_port_that_is_taken_is_said_in_one_sentence(served: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = served.begin_front_end(free_port(), GRPC_PORT=str(port))
        assert process.popen.wait(20) == 2
    said = process.output()
    assert (
        f"Port {port} of 127.0.0.1 cannot be used for gRPC, or is in use; HEADRACE_GRPC_PORT chooses another." in said
    )
    assert "Traceback" not in said


def test_without_its_packages_it_says_what_to_install(tmp_path: Path) -> None:
    """As in an environment without them: the interpreter finds none."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'grpc' else find(name, *more)\n"
    )
    environment = clean_environment(
        PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}", HEADRACE_GRPC_PORT="0", HEADRACE_PORT="0", HEADRACE_REDIS_PORT="1"
    )
    code = (
        "from producer_api.grpc.start import check_installed\n"
        "from shared.settings import SettingsError\n"
        "try:\n    check_installed()\nexcept SettingsError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert "HEADRACE_GRPC_PORT needs packages of the dependency group grpc, which are not installed" in done.stdout


def test_a_front_end_without_the_setting_imports_nothing_of_grpc() -> None:
    code = "import sys, producer_api.__main__; print(sorted({'grpc', 'google'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.soak  # they share one over HTTP in tests/e2e/producer_api/test_front_ends.py
def test_several_front_ends_share_the_port(served: Site, tmp_path: Path) -> None:
    port, shared = free_port(), free_port()
    settings = {"FRONT_ENDS": "2", "GRPC_PORT": str(shared), "DATA_DIR": str(tmp_path)}
    both = [served.begin_front_end(port, **settings) for _ in range(2)]
    for process in both:
        process.until("Serving on")
    target = f"127.0.0.1:{shared}"
    eventually(lambda: calls.status(target, MESSAGE) == ("OK", ""))
    other = served.begin_front_end(port, **{**settings, "FRONT_ENDS": "3", "GRPC_PORT": str(free_port())})
    assert other.popen.wait(20) == 2
    assert "HEADRACE_GRPC_PORT: the front ends that share the port must have the same" in other.output()
    assert both[0].terminate() == 0
    for _ in range(10):  # all of them to the one that is left
        assert calls.status(target, MESSAGE) == ("OK", "")


def test_it_finishes_what_runs_and_takes_nothing_new(served: Site) -> None:
    front_end = served.start_front_end()
    with connected(served) as client:
        eventually(client.is_server_ready)
        came: list[Any] = []
        client.async_infer(GATE, [number(-1)], lambda result, error: came.append((result, error)))
        eventually(lambda: in_flight(served) == 1)
        front_end.signal(signal.SIGTERM)

        def refused() -> bool:
            code, _ = calls.status(served.target, MESSAGE)
            return code == "UNAVAILABLE"

        eventually(refused)
        served.gate.touch()
        [(result, error)] = eventually(lambda: came)
        served.gate.unlink()
    assert error is None
    assert result.as_numpy("number").tolist() == [[-1]]
    assert front_end.popen.wait(20) == 0
    assert "Traceback" not in front_end.output()


def test_what_does_not_end_in_time_is_told_so(served: Site) -> None:
    front_end = served.start_front_end(DEFAULT_TIMEOUT_MS="1000")
    with calls.channel(served.target) as own:
        eventually(lambda: calls.status(served.target, MESSAGE) == ("OK", ""))
        made = request(GATE, "INT64", (1, 1), (-1).to_bytes(8, "little", signed=True))
        made.inputs[0].name = "number"
        held = own.unary_unary(calls.SERVICE + "ModelInfer").future(made.SerializeToString(), timeout=50)
        eventually(lambda: in_flight(served) == 1)
        front_end.signal(signal.SIGTERM)
        assert front_end.popen.wait(30) == 0
        error = held.exception(timeout=20)
    served.gate.touch()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "stopped before the answer came" in error.details()
    served.gate.unlink()


def test_while_it_drains_it_is_not_ready_and_still_answers(served: Site) -> None:
    front_end = served.start_front_end(DRAIN_S="600")
    with connected(served) as client:
        eventually(client.is_server_ready)
        front_end.signal(signal.SIGTERM)
        front_end.until("Draining for 600 s")
        assert not client.is_server_ready()
        assert client.is_server_live()
        assert client.infer(ECHO, [echoed(1)]).as_numpy("output").tolist() == [[1]]
        front_end.signal(signal.SIGTERM)
        assert front_end.popen.wait(20) == 0


def in_flight(site: Site) -> float:
    """How many requests a front end is answering."""
    import urllib.request

    with urllib.request.urlopen(f"{site.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("headrace_requests_in_flight "))
