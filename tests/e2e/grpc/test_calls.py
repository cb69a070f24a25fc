"""What a call brings with it besides its message: deadline, cancellation, key, trace; and where it is counted."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.helpers import eventually

from . import calls
from .calls import request
from .site import ECHO, GATE, Site, connected, echoed, number


@pytest.fixture
def closed(served: Site) -> Iterator[Site]:
    """A model that is busy until the end of the test: what comes now waits in its queue."""
    with connected(served) as client:
        held = threading.Event()
        client.async_infer(GATE, [number(-1)], lambda result, error: held.set())
        eventually(lambda: counted(served, "headrace_requests_in_flight") >= 1)
        yield served
        served.gate.touch()
        assert held.wait(20)
        served.gate.unlink()


def counted(site: Site, sample: str) -> float:
    """Value of a sample of the front end's metrics, 0 when there is none."""
    lines = text_of_metrics(site).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == sample)


def text_of_metrics(site: Site) -> str:
    """All metrics of the front end."""
    with urllib.request.urlopen(f"{site.url}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_a_deadline_that_passes_ends_the_request(closed: Site) -> None:
    with connected(closed) as client:
        with pytest.raises(InferenceServerException, match=r"(?i)deadline") as raised:
            client.infer(GATE, [number(2)], client_timeout=0.3)
        assert raised.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        # Its place is free again, and the request is not in the queue any more.
        eventually(lambda: counted(closed, "headrace_requests_in_flight") == 1)


def test_the_parameter_timeout_ends_it_too_with_a_sentence(closed: Site) -> None:
    with connected(closed) as client, pytest.raises(InferenceServerException) as raised:
        client.infer(GATE, [number(2)], timeout=300_000)
    assert raised.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert "No reply came in time" in raised.value.message()


def test_a_cancelled_call_cancels_its_request(closed: Site) -> None:
    before = counted(closed, f'headrace_requests_total{{model="{GATE}",outcome="client_closed"}}')
    with connected(closed) as client:
        context = client.async_infer(GATE, [number(3)], lambda result, error: None)
        eventually(lambda: counted(closed, "headrace_requests_in_flight") == 2)
        context.cancel()
        eventually(lambda: counted(closed, "headrace_requests_in_flight") == 1)
        counts = f'headrace_requests_total{{model="{GATE}",outcome="client_closed"}}'
        assert counted(closed, counts) == before + 1


def test_a_stream_that_is_cancelled_cancels_all_of_its_requests(closed: Site) -> None:
    client = InferenceServerClient(closed.target)
    client.start_stream(lambda result, error: None)
    for value in range(5):
        client.async_stream_infer(GATE, [number(value)])
    eventually(lambda: counted(closed, "headrace_requests_in_flight") == 6)
    client.stop_stream(cancel_requests=True)
    eventually(lambda: counted(closed, "headrace_requests_in_flight") == 1)
    client.close()


def test_a_connection_that_breaks_cancels_its_requests(closed: Site) -> None:
    own = calls.channel(closed.target)
    made = request(GATE, "INT64", (1, 1), (5).to_bytes(8, "little"))
    made.inputs[0].name = "number"
    held = own.unary_unary(calls.SERVICE + "ModelInfer").future(made.SerializeToString())
    eventually(lambda: counted(closed, "headrace_requests_in_flight") == 2)
    own.close()
    assert held.code() is grpc.StatusCode.CANCELLED
    eventually(lambda: counted(closed, "headrace_requests_in_flight") == 1)


def test_a_request_has_an_id_of_its_own_and_an_idempotency_key_counts(served: Site) -> None:
    message = request(ECHO).SerializeToString()
    with calls.channel(served.target) as own:
        call = own.unary_unary(calls.SERVICE + "ModelInfer")
        ids = []
        for metadata in ((), (), (("idempotency-key", "k1"),), (("idempotency-key", "k1"),)):
            _, done = call.with_call(message, metadata=metadata, timeout=20)
            ids.append(dict(done.trailing_metadata())["x-request-id"])
        assert len(set(ids[:2])) == 2
        assert ids[2] == ids[3]
        other = request(ECHO, raw=b"xyz").SerializeToString()
        with pytest.raises(grpc.RpcError) as raised:
            call.with_call(other, metadata=(("idempotency-key", "k1"),), timeout=20)
    assert raised.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_it_is_counted_like_any_other(served: Site) -> None:
    ok = f'headrace_requests_total{{model="{ECHO}",outcome="ok"}}'
    before = counted(served, ok)
    with connected(served) as client:
        client.infer(ECHO, [echoed(1)])
        statistics = client.get_inference_statistics(ECHO).model_stats[0]
    assert counted(served, ok) == before + 1
    assert statistics.inference_stats.success.count >= 1
    assert 'route="/inference.GRPCInferenceService/ModelInfer"' in text_of_metrics(served)


def test_metadata_configuration_and_index(served: Site) -> None:
    with connected(served) as client:
        metadata = client.get_model_metadata(GATE)
        assert (metadata.name, list(metadata.versions), metadata.platform) == (GATE, ["1"], "headrace_python")
        [one] = metadata.inputs
        assert (one.name, one.datatype, list(one.shape)) == ("number", "INT64", [-1, 1])
        config: Any = client.get_model_config(GATE).config
        assert config.input[0].data_type == 9  # TYPE_INT64
        assert (config.name, list(config.input[0].dims)) == (GATE, [1])
        assert config.max_batch_size > 0
        server = client.get_server_metadata()
        assert server.name == "headrace"
        assert "statistics" in server.extensions
        index = {one.name: one.state for one in client.get_model_repository_index().models}
        assert index[GATE] == index[ECHO] == "READY"
        assert [one.name for one in client.get_inference_statistics().model_stats]
        with pytest.raises(InferenceServerException, match="There is no model 'grpc-nothing'"):
            client.get_model_metadata("grpc-nothing")
