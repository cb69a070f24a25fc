"""Tracing through real processes: one trace from the caller to the batch, received as OTLP."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the packages of the dependency group 'tracing' are not installed")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.stack import Stack, call, echo_models
from tests.fault.generating.asking import null_models
from tests.helpers import eventually

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes spans over HTTP, as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        received: list[tuple[str, Any]] = []
        self._received = received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = {one.key: one.value.string_value for one in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        received.extend((names["service.name"], span) for span in scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def spans(self, service: str) -> list[Any]:
        """What a service has sent."""
        return [span for name, span in self._received if name == service]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Named to the processes by OpenTelemetry's own variables."""
    started = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    yield started
    started.close()


def ask(stack: Stack, model: str, headers: dict[str, str]) -> None:
    url = f"{stack.url}/v1/models/{model}/predict"
    headers = {"Content-Type": "application/octet-stream", **headers}
    with urllib.request.urlopen(urllib.request.Request(url, b"hello", headers), timeout=20) as answer:
        assert answer.status == 200


def test_one_trace_from_the_caller_to_the_batch(
    collector: Collector, valkey_url: str, tmp_path: Path, model_name: str
) -> None:
    with Stack(valkey_url, echo_models(tmp_path, model_name), TRACING="otlp") as stack:
        front_end, consumer = stack.start_front_end(), stack.start_consumer(model_name)
        stack.wait(model_name)
        ask(stack, model_name, {})
        ask(stack, model_name, {"traceparent": f"00-{TRACE}-{SPAN}-01"})
        [request] = eventually(lambda: collector.spans("headrace-producer-api"))
        [batch] = eventually(lambda: collector.spans("headrace-consumer"))
        assert (front_end.terminate(), consumer.terminate()) == (0, 0)
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, SPAN)
    [link] = batch.links
    assert (link.trace_id, link.span_id) == (request.trace_id, request.span_id)
    assert len(collector.spans("headrace-producer-api")) == len(collector.spans("headrace-consumer")) == 1


def test_the_first_token_of_a_streamed_text_is_an_event(
    collector: Collector, valkey_url: str, tmp_path: Path, model_name: str
) -> None:
    with Stack(valkey_url, null_models(tmp_path, model_name, step_ms=5), TRACING="otlp") as stack:
        front_end, consumer = stack.start_front_end(), stack.start_consumer(model_name)
        eventually(lambda: call(f"{stack.url}/v1/models/{model_name}").status == 200)
        asked = {"model": model_name, "prompt": "on and on ", "max_tokens": 30, "stream": True}
        headers = {"Content-Type": "application/json", "traceparent": f"00-{TRACE}-{SPAN}-01"}
        request = urllib.request.Request(f"{stack.url}/v1/completions", json.dumps(asked).encode(), headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.read().endswith(b"data: [DONE]\n\n")
        [client] = eventually(lambda: collector.spans("headrace-producer-api"))
        [generation] = eventually(lambda: collector.spans("headrace-consumer"))
        assert (front_end.terminate(), consumer.terminate()) == (0, 0)
    for span in (client, generation):
        [event] = span.events
        assert event.name == "headrace.first_token"
        assert span.start_time_unix_nano < event.time_unix_nano < span.end_time_unix_nano
    [link] = generation.links
    assert (link.trace_id, link.span_id) == (client.trace_id, client.span_id)


def test_what_is_left_is_sent_at_the_end(
    collector: Collector, valkey_url: str, tmp_path: Path, model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    with Stack(valkey_url, echo_models(tmp_path, model_name), TRACING="otlp") as stack:
        front_end, consumer = stack.start_front_end(), stack.start_consumer(model_name)
        stack.wait(model_name)
        ask(stack, model_name, {"traceparent": f"00-{TRACE}-{SPAN}-01"})
        assert (front_end.terminate(), consumer.terminate()) == (0, 0)
    assert len(collector.spans("headrace-producer-api")) == len(collector.spans("headrace-consumer")) == 1
