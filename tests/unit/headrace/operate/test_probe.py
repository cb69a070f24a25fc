"""`headrace probe`: asked of real processes, and of sockets that answer badly."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from consumer.metrics import ConsumerMetrics
from headrace.asking import local_http
from headrace.operate import probe
from shared.net.hosts import Hosts
from shared.redis.embedded import free_port
from shared.settings import Settings, SettingsError
from tests.unit.headrace.operators import headrace, server

PROXY = "http://127.0.0.1:1"
PROXIES = {"http_proxy": PROXY, "HTTP_PROXY": PROXY, "https_proxy": PROXY, "all_proxy": PROXY, "no_proxy": ""}
PROXIES["NO_PROXY"] = ""


@contextmanager
def answering(*pieces: bytes, stays: bool = False) -> Iterator[int]:
    """A server that takes one connection and sends these pieces; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)
                if stays:
                    over.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


def test_a_consumer_is_ready_once_its_model_is_loaded_and_no_proxy_is_asked() -> None:
    metrics = ConsumerMetrics(CollectorRegistry(), "m")
    port = str(metrics.serve("127.0.0.1", 0, Hosts()))
    loading = headrace("redis://unused", "probe", "consumer", "--port", port, **PROXIES)
    assert loading.code == 1
    assert loading.err.startswith(f"The consumer at 127.0.0.1 port {port} is not ready. The model is not loaded yet")
    assert headrace("redis://unused", "probe", "consumer", "--port", port, "--alive", **PROXIES).code == 0
    metrics.is_ready = lambda: True
    ready = headrace("redis://unused", "probe", "consumer", "--port", port, **PROXIES)
    assert (ready.code, ready.out) == (0, f"The consumer at 127.0.0.1 port {port} is ready.\n")
    as_json = headrace("redis://unused", "probe", "consumer", "--json", HEADRACE_METRICS_PORT=port, **PROXIES)
    assert as_json.json["ready"] is True


def test_the_metrics_of_a_consumer_are_where_they_were() -> None:
    metrics = ConsumerMetrics(CollectorRegistry(), "m")
    answer = local_http.ask("127.0.0.1", metrics.serve("127.0.0.1", 0, Hosts()), "/metrics", 5.0)
    assert answer.status == 200
    assert b"headrace_batch_size" in answer.body


def test_nobody_there_is_another_exit_code() -> None:
    said = headrace("redis://unused", "probe", HEADRACE_PORT=str(free_port()), **PROXIES)
    assert said.code == 3
    assert "does not answer: Connection refused." in said.err


@pytest.mark.parametrize(
    "pieces", [(), (b"HTTP/1.1 200 OK\r\n",), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",)]
)
def test_who_answers_too_slowly_is_given_up_in_time(pieces: tuple[bytes, ...]) -> None:
    with answering(*pieces, stays=True) as port:
        begun_s = time.monotonic()
        with pytest.raises(local_http.NoAnswer, match=r"no answer within 0\.3 s"):
            local_http.ask("127.0.0.1", port, "/readyz", 0.3)
        assert time.monotonic() - begun_s >= 0.3


@pytest.mark.parametrize("answer", [b"", b"+PONG\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\xff" * 100])
def test_what_is_no_http_is_no_answer(answer: bytes) -> None:
    with answering(answer) as port, pytest.raises(local_http.NoAnswer, match="does not speak HTTP"):
        local_http.ask("127.0.0.1", port, "/readyz", 5.0)


def test_an_endless_answer_ends() -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (2 * local_http.MOST_BYTES)) as port:
        assert local_http.ask("127.0.0.1", port, "/", 5.0).status == 200


def test_an_answer_that_is_none_of_ours_is_not_ready() -> None:
    with answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as port:
        code, sentence = probe.run(probe.Question("front-end", "127.0.0.1", port, "/readyz", False), 5.0)
    assert code == 1
    assert "status 404" in sentence


def test_reasons_cannot_speak_to_a_terminal() -> None:
    body = b'{"reasons": ["\\u001b[2Jgone", 3]}'
    with answering(b"HTTP/1.1 503 x\r\nContent-Length: %d\r\n\r\n" % len(body), body) as port:
        _, sentence = probe.run(probe.Question("front-end", "127.0.0.1", port, "/readyz", False), 5.0)
    assert sentence.endswith("is not ready. [2Jgone")


def test_whom_to_ask_is_in_the_settings() -> None:
    settings = Settings(host="0.0.0.0", port=8123, metrics_host="::", metrics_port=9200)
    assert probe.question(settings, probe.FRONT_END, None, None, False) == probe.Question(
        "front-end", "127.0.0.1", 8123, "/readyz", False
    )
    assert probe.question(settings, probe.CONSUMER, 3, None, True) == probe.Question(
        "consumer", "::1", 9203, "/healthz", False
    )
    assert probe.question(settings, probe.CONSUMER, 3, 77, False).port == 77
    assert probe.question(Settings(tls_cert_file="c", tls_key_file="k"), probe.FRONT_END, None, None, False).tls


def test_one_of_several_front_ends_is_asked_at_the_port_of_its_metrics() -> None:
    settings = Settings(port=8123, tls_cert_file="c", tls_key_file="k", metrics_host="::", api_metrics_port=9300)
    assert probe.question(settings, probe.FRONT_END, 2, None, False) == probe.Question(
        "front-end", "::1", 9302, "/readyz", False
    )
    with pytest.raises(SettingsError, match=r"HEADRACE_API_METRICS_PORT does not say which port to ask \(0\)"):
        probe.question(Settings(), probe.FRONT_END, 2, None, False)


@pytest.mark.parametrize("part", [probe.FRONT_END, probe.CONSUMER])
def test_a_port_that_nobody_knows_must_be_named(part: str) -> None:
    with pytest.raises(SettingsError, match=r"does not say which port to ask \(0\); name it with --port"):
        probe.question(Settings(port=0, metrics_port=0), part, None, None, False)


def test_a_wrong_setting_is_exit_2() -> None:
    assert headrace("redis://unused", "probe", HEADRACE_PROT="1").code == 2


def test_a_front_end_without_a_model_says_why(tmp_path: Path) -> None:
    from tests.e2e.stack import Process

    port = str(free_port())
    with server(tmp_path) as url:
        front_end = Process(["-m", "producer_api"], {"HEADRACE_REDIS_URL": url, "HEADRACE_PORT": port})
        try:
            front_end.until("Serving on")
            said = headrace(url, "probe", HEADRACE_PORT=port, **PROXIES)
            assert said.code == 1
            assert said.err == f"The front-end at 127.0.0.1 port {port} is not ready. No model has been served yet.\n"
            assert headrace(url, "probe", "--alive", HEADRACE_PORT=port, **PROXIES).code == 0
        finally:
            front_end.close()
