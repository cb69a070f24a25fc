"""Both clients of the REST API against a running stack."""

from __future__ import annotations

import asyncio
import socket
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from headrace.client import Answer, AsyncClient, Client, HeadraceError, Retries
from tests.e2e.stack import Process, Stack
from tests.helpers import eventually


def test_a_body_gives_predictions(client: Client) -> None:
    answer = client.predict("client-moods", "Hello!", top_k=1)
    assert [(one.label, one.index, one.score) for one in answer.predictions] == [("loud", 1, 0.75)]
    assert (answer.model, answer.tensors, answer.outputs) == ("client-moods", (), {})
    assert answer.timing.total_ms > 0 and answer.timing.batch_size == 1


@pytest.mark.parametrize("rows", [[1.0, 2.0, 3.5], [[1.0, 2.0, 3.5], [4.0, 5.0, 6.0]]])
def test_inputs_give_arrays(client: Client, rows: list[object]) -> None:
    for value in (rows, np.array(rows, np.float32)):
        answer = client.predict("client-sums", inputs={"numbers": value})
        assert answer.outputs["sum"].dtype == np.float32
        assert answer.outputs["sum"].tolist() == [[6.5], [15.0]][: len(answer.outputs["sum"])]
        assert len(answer.outputs["sum"]) == (2 if isinstance(rows[0], list) else 1)


def test_errors_say_what_is_wrong(client: Client) -> None:
    with pytest.raises(HeadraceError) as caught:
        client.predict("client-sums", inputs={"numbers": [1.0, 2.0]})
    error = caught.value
    assert (error.code, error.status) == ("invalid_input", 422)
    assert error.field is not None and error.field.startswith("inputs[0]") and error.request_id
    with pytest.raises(HeadraceError) as caught:
        client.predict("client-nobody", b"")
    assert (caught.value.code, caught.value.status) == ("unknown_model", 404)


def test_the_same_id_gets_the_same_answer(client: Client) -> None:
    name = uuid.uuid4().hex
    first = client.predict("client-echo", b"one", request_id=name)
    again = client.predict("client-echo", b"two", request_id=name)
    assert first.id == again.id == name
    assert first.outputs["output"].tobytes() == again.outputs["output"].tobytes() == b"one"


def test_a_document_of_ones_own_is_sent_as_it_is(client: Client) -> None:
    document = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["Hi!"]}]}'
    answer = client.predict("client-moods", document, content_type="application/json", top_k=1)
    assert [one.label for one in answer.predictions] == ["loud"]


def test_models_are_listed(client: Client) -> None:
    found = {model.name: model for model in client.models()}
    assert {"client-moods", "client-sums", "client-echo"} <= set(found)
    assert found["client-sums"].ready and found["client-sums"].workers == 1
    assert found["client-sums"].state == "ready"


def test_an_answer_is_fetched_later(client: Client) -> None:
    later = client.later("client-sums", inputs={"numbers": [1.0, 1.0, 1.0]}, keep_s=60, begin_within_s=60)
    assert (later.model, later.status) == ("client-sums", "queued")
    answer = client.result(later.model, later.id)
    assert answer.outputs["sum"].tolist() == [[3.0]]
    assert client.cancel(later.model, later.id) is False
    with pytest.raises(HeadraceError) as caught:
        client.result("client-sums", "never-sent", timeout_s=5.0)
    assert caught.value.code == "unknown_request"


def test_a_later_request_is_taken_back(stack: Stack, client: Client) -> None:
    consumer = stack.start_consumer("client-gone")
    consumer.terminate()
    later = client.later("client-gone", b"never", begin_within_s=3600)
    assert client.cancel(later.model, later.id) is True
    with pytest.raises(HeadraceError) as caught:
        client.result(later.model, later.id, timeout_s=5.0)
    assert (caught.value.code, caught.value.status) == ("cancelled", 499)


def test_a_thread_pool_shares_one_client(client: Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: client.predict("client-echo", b"%d" % number), range(40)))
    assert [one.outputs["output"].tobytes() for one in answers] == [b"%d" % number for number in range(40)]


def test_asyncio_does_the_same(stack: Stack) -> None:
    async def run() -> list[Answer]:
        async with AsyncClient(stack.url) as client:
            later = await client.later("client-moods", "Hello!")
            one = await client.result("client-moods", later.id)
            assert await client.cancel("client-moods", later.id) is False
            assert "client-moods" in {model.name for model in await client.models()}
            with pytest.raises(HeadraceError, match="unknown_model"):
                await client.predict("client-nobody", b"")
            return [one, *await asyncio.gather(*[client.predict("client-moods", f"{n}!") for n in range(50)])]

    answers = asyncio.run(run())
    assert len({one.id for one in answers}) == 51
    assert {one.predictions[0].label for one in answers} == {"loud"}


class Flaky:
    """In front of the stack: cuts the first connections when the request has gone through, and passes on the others."""

    def __init__(self, url: str, cuts: int) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._to, self._cuts, self.requests = (host, int(port)), cuts, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with near, socket.create_connection(self._to) as far:
                self.requests += 1
                request = b""
                while not request.endswith(b"once!"):
                    request += near.recv(65536)
                far.sendall(request)
                answer = far.recv(65536)
                if self.requests > self._cuts:
                    near.sendall(answer)

    def close(self) -> None:
        self._listener.close()


def test_a_lost_answer_is_asked_for_again_and_runs_once(stack: Stack, moods: Process) -> None:
    flaky = Flaky(stack.url, cuts=2)
    before = stack.ended(moods, "ok")
    with Client(flaky.url, retries=Retries(first_s=0.01)) as client:
        answer = client.predict("client-moods", "once!")
    flaky.close()
    assert answer.predictions[0].label == "loud"
    assert flaky.requests == 3
    assert eventually(lambda: stack.ended(moods, "ok") == before + 1)


def test_nobody_there_is_an_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = Client(f"http://127.0.0.1:{port}", retries=Retries(attempts=2, first_s=0.0))
    with client, pytest.raises(HeadraceError) as caught:
        client.models()
    assert (caught.value.code, caught.value.status) == ("connection_failed", None)


def test_a_service_that_is_silent_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        async def run() -> None:
            async with AsyncClient(url) as client:
                await client.predict("m", b"", timeout_s=0.2)

        with Client(url) as client, pytest.raises(HeadraceError) as caught:
            client.predict("m", b"", timeout_s=0.2)
        assert caught.value.code == "unknown_outcome" and caught.value.request_id
        with pytest.raises(HeadraceError, match="unknown_outcome"):
            asyncio.run(run())
