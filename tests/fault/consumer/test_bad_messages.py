"""Messages and tensors that are none, sent through REST and straight onto the stream, to real processes."""

from __future__ import annotations

import http.client
import json
import math
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import redis

from shared import keys
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from shared.wire.messages import Reply, decode_reply
from tests.e2e.stack import Process, Stack
from tests.embedded import EmbeddedServer
from tests.fault import paced
from tests.fault.consumer import flawed, hostile
from tests.fault.consumer.hostile import Kind
from tests.helpers import eventually
from tests.memory import resident_bytes_of

MSGPACK, JSON = "application/msgpack", "application/json"
LANE = keys.DEFAULT_LANE
MOST_DEAD, MOST_DEAD_BYTES = 10_000, 64 << 20  # docs/protocol.md
GROWTH_BYTES = 32 << 20

wait_until = partial(eventually, limit_s=50.0)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

LONG = pytest.param(100_000, id="long", marks=[pytest.mark.soak, pytest.mark.timeout(600)])


def add(client: redis.Redis, model: str, messages: Iterable[bytes]) -> None:
    """Put messages onto the stream at once, as a direct producer does."""
    with client.pipeline(transaction=True) as pipe:
        for message in messages:
            pipe.xadd(keys.work(model, LANE), {keys.MESSAGE_FIELD: message}, nomkstream=True)
        assert all(pipe.execute())


def reply_of(client: redis.Redis, model: str, request_id: str) -> Reply:
    """Wait for the reply to a request."""
    found: Any = wait_until(lambda: client.lindex(keys.reply(model, LANE, request_id), 0))
    return decode_reply(found)


class House:
    """A front end and two consumers: ``echo`` takes anything, ``line`` four numbers a row and eight rows."""

    def __init__(self, stack: Stack, url: str) -> None:
        self.stack = stack
        self.redis = connect(url)
        self.front_end = stack.start_front_end()
        self.echo = stack.start_consumer("echo")
        self.line = stack.start_consumer("line", MAX_BATCH="8", WINDOW_MS="200")
        stack.wait("echo")
        stack.wait("line")
        self._connection = http.client.HTTPConnection(stack.url.removeprefix("http://"), timeout=30)
        self._used_s = time.monotonic()

    def post(self, model: str, body: bytes, content_type: str) -> tuple[int, dict[str, Any]]:
        """Send a request over a connection that is kept, unless the server may be about to close it."""
        if time.monotonic() - self._used_s > 2:
            self._connection.close()
        self._connection.request("POST", f"/v1/models/{model}/predict", body, {"Content-Type": content_type})
        answer = self._connection.getresponse()
        told = json.loads(answer.read())
        self._used_s = time.monotonic()
        return answer.status, told

    def add(self, model: str, *messages: bytes) -> None:
        add(self.redis, model, messages)

    def settle(self, model: str) -> None:
        """Wait until everything in the lane has ended."""
        wait_until(lambda: self.redis.xlen(keys.work(model, LANE)) == 0)

    def reply(self, model: str, request_id: str) -> Reply:
        return reply_of(self.redis, model, request_id)

    def dead(self, model: str) -> int:
        found: Any = self.redis.xlen(keys.dead_letters(model, LANE))
        return int(found)

    def malformed(self) -> float:
        """How many entries without a readable id the consumer of ``echo`` has counted."""
        name = 'headrace_malformed_entries_total{model="echo"} '
        lines = self.stack.metrics(self.echo).splitlines()
        return float(next(line.removeprefix(name) for line in lines if line.startswith(name)))

    def close(self) -> None:
        self._connection.close()
        self.redis.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    models = paced.models_file(folder, "line", huge=True)
    models.write_text(f'{models.read_text()}[models.echo]\nfamily = "echo"\n')
    with (
        EmbeddedServer(ServerConfig(folder / "redis", free_port(), appendonly="no", maxmemory_mb=512)) as server,
        Stack(server.url, models) as stack,
    ):
        made = House(stack, server.url)
        yield made
        made.close()


def request(request_id: str, body: bytes = b"x", **members: Any) -> dict[str, Any]:
    """A good message, but for what ``members`` change."""
    return {"v": 1, "id": request_id, "ttl_ms": 60_000, "ct": hostile.RAW, "body": body, **members}


def flat(process: Process, before_bytes: int) -> None:
    assert resident_bytes_of(process.popen.pid) - before_bytes < GROWTH_BYTES


def test_row_27_versions_mixed_during_a_rollout(house: House) -> None:
    without = request("missing")
    del without["v"]
    bad = {
        "zero": (request("zero", v=0), "Version 0 "),
        "two": (request("two", v=2), "Version 2 "),
        "missing": (without, "Version None "),
        "huge": (request("huge", v=2**63), "Version 9223372036854775808 "),
        "text": (request("text", v="1"), "Version '1' "),
        "newer": (request("newer", priority=3), "priority"),
    }
    good = [request(f"one-{number}", b"%d" % number) for number in range(6)]
    mixed = chain.from_iterable(zip(good, (message for message, _ in bad.values()), strict=True))
    house.add("echo", *map(msgpack.packb, mixed))
    for name, (_, said) in bad.items():
        reply = house.reply("echo", name)
        assert reply.fault is not None
        assert (reply.fault.code, said in reply.fault.message) == ("malformed", True), reply.fault
        assert reply.fault.field == ("priority" if name == "newer" else "v")
    for number, message in enumerate(good):
        outputs = house.reply("echo", message["id"]).outputs
        assert outputs is not None
        assert outputs[0].data == b"%d" % number
    assert house.echo.popen.poll() is None


@pytest.mark.parametrize("count", [pytest.param(3_000, id="short"), LONG])
def test_rows_31_to_33_through_rest(house: House, count: int) -> None:
    """What is no message is 400 and says why; what is one, and holds what it may not hold, is 422."""

    def send(bodies: Iterable[tuple[Kind, bytes]]) -> None:
        for kind, body in bodies:
            status, answer = house.post("echo", body, MSGPACK)
            error = answer["error"]
            expected = (422, "invalid_input") if kind is Kind.TIMESTAMP else (400, "malformed")
            assert (status, error["code"]) == expected, (kind, body[:50])
            assert kind is Kind.TIMESTAMP or re.search(hostile.SAID[kind], error["message"]), (kind, error)
            assert error["field"]
            assert len(error["message"]) < 500

    million = (Kind.INT_KEYS, hostile.int_keys(1_000_000))
    send(hostile.broken(hostile.DOCUMENT, 1_000, seed=31))
    send([million])
    before = resident_bytes_of(house.front_end.popen.pid)
    send(hostile.broken(hostile.DOCUMENT, count, seed=32))
    send([million] * 10)
    flat(house.front_end, before)
    assert house.post("echo", hostile.DOCUMENT, MSGPACK)[0] == 200


@pytest.mark.parametrize("count", [pytest.param(12_000, id="short"), LONG])
def test_rows_31_to_33_on_the_stream(house: House, count: int) -> None:
    """Whose id can be read is told, all others are dead letters; of those the newest are kept, up to the cap."""
    whole = msgpack.packb(request("never-whole"))
    kinds: dict[Any, Kind] = {}

    def send(seed: int, number: int) -> int:
        kinds.update((message, kind) for kind, message in hostile.broken(whole, number, seed))
        messages = [message for _, message in hostile.broken(whole, number, seed)]
        for start in range(0, number, 500):
            house.add("echo", *messages[start : start + 500])
        house.settle("echo")
        return number

    earlier = house.malformed()
    sent = send(41, 1_000)
    house.add("echo", *[hostile.int_keys(1_000_000)] * 2)
    house.settle("echo")
    before = resident_bytes_of(house.echo.popen.pid)
    sent += send(42, count) + 2
    house.add("echo", msgpack.packb(request("honest", b"still here")))
    outputs = house.reply("echo", "honest").outputs
    assert outputs is not None
    assert outputs[0].data == b"still here"
    flat(house.echo, before)
    assert house.malformed() - earlier == sent
    assert house.dead("echo") == min(earlier + sent, MOST_DEAD)
    newest: Any = house.redis.xrevrange(keys.dead_letters("echo", LANE), count=1_000)
    said = [(kinds[letter[b"m"]], letter[b"reason"].decode()) for _, letter in newest]
    assert [(kind, reason) for kind, reason in said if not re.search(hostile.SAID[kind], reason)] == []
    assert {kind for kind, _ in said} == set(Kind)


def test_row_31_dead_letters_keep_within_their_bytes(house: House) -> None:
    """Forty of 4 MiB are more than may be kept."""
    large = b"\x91" * (4 << 20)
    for _ in range(10):
        house.add("echo", *[large] * 4)
        house.settle("echo")
    found: Any = house.redis.xrange(keys.dead_letters("echo", LANE))
    kept = sum(len(letter[b"m"]) for _, letter in found)
    assert MOST_DEAD_BYTES - 2 * len(large) < kept <= MOST_DEAD_BYTES
    house.redis.delete(keys.dead_letters("echo", LANE))


GOOD = {"name": "x", "shape": [4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"shape": [5], "data": [1.0] * 5}, "inputs[0].shape"),
        ({"shape": [2, 2, 4], "data": [1.0] * 16}, "inputs[0].shape"),
        ({"shape": [-4]}, "inputs[0].shape"),
        ({"shape": [2**62, 4]}, "inputs[0].shape"),
        ({"shape": [0, 4], "data": []}, "inputs[0].shape"),
        ({"shape": []}, "inputs[0].shape"),
        ({"shape": [9, 4], "data": [1.0] * 36}, "inputs[0].shape"),
        ({"data": []}, "inputs[0].data"),
        ({"data": [1.0, 2.0, 3.0]}, "inputs[0].data"),
        ({"data": [1.0, 2.0, math.nan, 4.0]}, "inputs[0].data"),
        ({"data": [1.0, 2.0, math.inf, 4.0]}, "inputs[0].data"),
        ({"data": np.array([1, math.nan, 3, 4], "<f4").tobytes()}, "inputs[0].data"),
        ({"data": bytes(15)}, "inputs[0].data"),
        ({"datatype": "FP64"}, "inputs[0].datatype"),
        ({"datatype": "FP99"}, "inputs[0].datatype"),
        ({"name": "y"}, "inputs[0].name"),
    ],
)
def test_row_34_tensors_that_do_not_fit_name_the_field(house: House, changed: dict[str, Any], field: str) -> None:
    status, answer = house.post("line", msgpack.packb({"inputs": [{**GOOD, **changed}]}), MSGPACK)
    assert (status, answer["error"]["code"]) == (422, "invalid_input")
    assert answer["error"]["field"].startswith(field)


@pytest.mark.parametrize(
    ("body", "content_type", "field"),
    [
        (msgpack.packb({"inputs": []}), MSGPACK, "inputs"),
        (msgpack.packb({"inputs": [GOOD, GOOD]}), MSGPACK, "inputs[1]"),
        (msgpack.packb({"inputs": [GOOD] * 65}), MSGPACK, "inputs"),
        (json.dumps({"inputs": []}).encode(), JSON, "inputs"),
        (b"", hostile.RAW, "body"),
        (bytes(15), hostile.RAW, "body"),
        (bytes(9 * paced.ROW_BYTES), hostile.RAW, "body"),
        (np.array([1, math.nan, 3, 4], "<f4").tobytes(), hostile.RAW, "body"),
    ],
    ids=["none", "two", "65", "none in JSON", "empty", "a byte short", "nine rows", "NaN"],
)
def test_row_34_bodies_that_do_not_fit_name_the_field(house: House, body: bytes, content_type: str, field: str) -> None:
    status, answer = house.post("line", body, content_type)
    assert (status, answer["error"]["code"]) == (422, "invalid_input")
    assert answer["error"]["field"].startswith(field)


def test_row_34_batchmates_answers_are_the_same_bits_with_and_without_them(house: House, tmp_path: Path) -> None:
    """The bad ones come straight onto the stream, so that only the consumer can refuse them."""
    values = np.random.default_rng(34).standard_normal((6, 4)).astype("<f4")
    rows = [row.tobytes() for row in values]
    huge = np.full(4, paced.LARGEST, "<f4").tobytes()
    not_a_number = np.array([1, math.nan, 3, 4], "<f4").tobytes()
    tensor = {"name": "x", "datatype": "INT8", "shape": [4], "data": b"\1\2\3\4"}
    two = request("two-inputs", inputs=[tensor, tensor])
    del two["ct"], two["body"]
    bad = {
        "nan": (request("nan", not_a_number), "invalid_input"),
        "rows": (request("rows", bytes(9 * paced.ROW_BYTES)), "invalid_input"),
        "short": (request("short", bytes(15)), "invalid_input"),
        "empty": (request("empty", b""), "invalid_input"),
        "two-inputs": (two, "invalid_input"),
        "huge": (request("huge", huge), "model_error"),
    }

    def answers(prefix: str, among: Sequence[dict[str, Any]]) -> list[bytes]:
        good = [request(f"{prefix}-{number}", row) for number, row in enumerate(rows)]
        house.add("line", *map(msgpack.packb, [*good[:3], *among, *good[3:]]))
        found = [house.reply("line", message["id"]) for message in good]
        return [reply.outputs[0].data for reply in found if reply.outputs is not None]

    alone = answers("alone", [])
    together = answers("together", [message for message, _ in bad.values()])
    assert [np.frombuffer(one, "<f4").tolist() for one in alone] == (2 * values + 1).tolist()
    assert together == alone
    for name, (_, code) in bad.items():
        fault = house.reply("line", name).fault
        assert fault is not None
        assert fault.code == code


@pytest.mark.soak  # the same with a model of numpy is above
def test_row_34_a_networks_answers_are_the_same_bits_beside_what_is_refused(
    valkey_url: str, tmp_path: Path, model_name: str
) -> None:
    """A batch of a size of its own may take other kernels, and have other last bits: so here it is the same size.

    What fails in the run is another matter: the others are run again in halves, as precisely and not bit by bit.
    """
    pictures = np.random.default_rng(34).integers(0, 255, (6, flawed.SIDE, flawed.SIDE, 3), np.uint8)
    settings = {"MAX_BATCH": "6", "WINDOW_MS": "1000", "PRECISION": "fp32", "RUNTIME": "torch"}
    with (
        Stack(valkey_url, flawed.models_file(tmp_path, model_name), **settings) as stack,
        connect(valkey_url) as client,
    ):
        stack.start_consumer(model_name)

        def answers(prefix: str, among: Sequence[dict[str, Any]]) -> tuple[list[bytes], list[int]]:
            good = [request(f"{prefix}-{number}", picture.tobytes()) for number, picture in enumerate(pictures)]
            add(client, model_name, map(msgpack.packb, [*good[:3], *among, *good[3:]]))
            found = [reply_of(client, model_name, message["id"]) for message in good]
            logits = [reply.outputs[0].data for reply in found if reply.outputs is not None]
            return logits, [reply.timing.batch for reply in found]

        alone = answers("alone", [])
        assert [len(set(alone[0])), *alone[1]] == [6] * 7
        bad = [
            request("short", bytes(100)),
            request("empty", b""),
            request("kind", pictures[0].tobytes(), ct="image/gif"),
            request("top", pictures[0].tobytes(), params={"top_k": 0}),
        ]
        assert answers("refused", bad) == alone
        refused = [reply_of(client, model_name, message["id"]).fault for message in bad]
        assert [fault and fault.code for fault in refused] == [
            "invalid_input",
            "invalid_input",
            "unsupported_media_type",
            "invalid_input",
        ]
        among, _ = answers("failed", [request("white", flawed.WHITE)])
        failed = reply_of(client, model_name, "white").fault
        assert failed is not None
        assert failed.code == "model_error"
        for one, other in zip(among, alone[0], strict=True):
            logits, before = (np.frombuffer(data, "<f4") for data in (one, other))
            np.testing.assert_allclose(logits, before, rtol=0, atol=1e-5 * np.abs(before).max())
