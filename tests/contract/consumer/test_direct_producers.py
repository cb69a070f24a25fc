"""Direct producers: the commands of docs/protocol.md and the example, as a reader would run them, on real servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis
from prometheus_client import CollectorRegistry

from consumer.config import ConsumerConfig
from consumer.metrics import ConsumerMetrics
from consumer.models.echo import Echo
from consumer.queue.interface import Completion
from consumer.queue.redis_stream import RedisStream
from consumer.worker import Worker
from loadgen.load.stream_carrier import StreamCarrier
from loadgen.results.ledger import OK, Ledger
from loadgen.scenario import Payload, Scenario, parse_target
from shared import keys
from shared.model_config import ModelConfig
from shared.redis.client import connect
from shared.wire.messages import Request, decode_reply, decode_request, encode_request
from tests.contract.lanes import card, settings
from tests.fakes import NoBoard
from tests.helpers import eventually

ROOT = Path(__file__).parents[3]
SHELL_BLOCKS = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CLI = "redis-cli -p 6399 "


@dataclass(frozen=True)
class Served:
    """A model that gives back its bytes, served by a real consumer in a thread."""

    url: str
    model: str


@pytest.fixture
def served(redis_url: str, model_name: str) -> Iterator[Served]:
    chosen = settings(redis_url, lease_ms=3000)
    config = ConsumerConfig(
        model_name, ModelConfig(family="echo"), chosen, "worker-1", "fp32", 32, 1.0, "window", metrics_port=0
    )
    stream, metrics = RedisStream(chosen, model_name, "worker-1"), ConsumerMetrics(CollectorRegistry(), model_name)
    worker = Worker(config, Echo, stream, metrics, None, NoBoard(), frozenset())
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(worker.run()), daemon=True)
    thread.start()
    with connect(redis_url) as client:
        # The list of models comes last in a heartbeat, after the card.
        eventually(lambda: client.zscore(keys.MODELS, model_name) is not None)
    yield Served(redis_url, model_name)
    worker.stop()
    thread.join(20)
    assert statuses == [0]


def documented_lines() -> list[str]:
    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    return [line for block in SHELL_BLOCKS.findall(text) for line in block.splitlines() if CLI in line]


def piped(line: str) -> bytes:
    """What the shell's printf would put into the pipe."""
    found = re.match(r"printf '([^']*)' \| ", line)
    assert found is not None
    return re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), found[1].encode())


def test_the_documented_redis_cli_lines_do_what_they_say(served: Served) -> None:
    """redis-cli does nothing but send its arguments, so they are sent here; it need not be installed."""
    answers: dict[str, Any] = {}
    with connect(served.url) as client:
        for line in documented_lines():
            command = shlex.split(line[line.index(CLI) + len(CLI) :].replace("{echo}", f"{{{served.model}}}"))
            arguments: list[Any] = [part for part in command if part != "-x"]
            if "-x" in line:
                arguments.append(piped(line))
            name = arguments[0]
            answers[name] = client.execute_command(*arguments)
            if name == "ZRANGE" and arguments[1] == "hr:models":
                assert served.model.encode() in answers[name]
    assert json.loads(answers["HGET"])[0]["datatype"] == "UINT8"
    assert answers["ZRANGE"][0] == b"worker-1"
    assert answers["XLEN"] == 0
    assert answers["XADD"] is not None
    reply = decode_reply(answers["LINDEX"])
    assert reply.outputs is not None
    assert (reply.id, reply.outputs[0].data) == ("shell-1", b"hello")
    assert answers["PTTL"] > 0
    assert answers["XREAD"][0][1][0][1] == {b"id": b"shell-1", b"reply": answers["LINDEX"]}
    assert answers["BLPOP"][1] == answers["LINDEX"]
    assert len(answers) == 9


def example(served: Served, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / script), *arguments],
        env={**os.environ, "HEADRACE_REDIS_URL": served.url},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_example_sends_waits_and_prints(served: Served, tmp_path: Path) -> None:
    payload = tmp_path / "payload.bin"
    payload.write_bytes(b"hello")
    done = example(served, "direct_producer.py", str(payload), served.model)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "output UINT8 [1, 5]\n"


def test_the_example_sends_thousands(served: Served, tmp_path: Path) -> None:
    payload = tmp_path / "payload.bin"
    payload.write_bytes(b"x" * 20_000)  # too large for a hint, so that reply keys are read too
    done = example(served, "fast_producer.py", str(payload), "--model", served.model, "--count", "2000")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2000 answered, 0 failed, 0 unknown")
    with connect(served.url) as client:
        assert list(client.scan_iter(match=keys.reply(served.model, "default", "*"), count=1000)) == []


def test_the_example_says_what_the_consumer_did_not_like(served: Served, tmp_path: Path) -> None:
    payload = tmp_path / "photo.jpg"
    payload.write_bytes(b"no picture")
    done = example(served, "direct_producer.py", str(payload), served.model)
    assert done.returncode == 1
    assert done.stderr.startswith("unsupported_media_type: ")


def test_the_example_says_when_there_is_nobody(served: Served, tmp_path: Path) -> None:
    payload = tmp_path / "payload.bin"
    payload.write_bytes(b"hello")
    done = example(served, "direct_producer.py", str(payload), "nobody")
    assert (done.returncode, done.stderr) == (1, "No consumer has served nobody here yet.\n")
    done = example(served, "fast_producer.py", str(payload), "--model", "nobody")
    assert (done.returncode, done.stderr) == (1, "No consumer has served this model here yet.\n")


def gone(client: redis.Redis, key: str) -> bool:
    return not client.exists(key)


def test_a_producer_may_say_how_long_its_reply_stays(served: Served) -> None:
    usual_ms = settings(served.url, lease_ms=3000).reply_expiry_ms(60_000)
    with connect(served.url) as client:
        for name, keep_ms, longest_ms in (("usual", None, usual_ms), ("short", 60, 60), ("long", 3_600_000, 3_600_000)):
            stream, reply = keys.reply_stream(served.model, "default", name), keys.reply(served.model, "default", name)
            request = Request(name, 60_000, "application/octet-stream", b"x", reply_to=name, keep_ms=keep_ms)
            client.xadd(keys.work(served.model, "default"), {"m": encode_request(request)}, nomkstream=True)
            eventually(partial(client.xlen, stream))
            if name == "short":
                eventually(partial(gone, client, reply))  # long before the request's ttl_ms is over
            else:
                left_ms: Any = client.pttl(reply)
                assert longest_ms / 2 < left_ms <= longest_ms


def test_a_plain_redis_client_and_the_front_ends_function_share_a_lane(served: Served) -> None:
    """A request by XADD and one by hr1_admit are answered alike; asking again for the first finds its reply."""
    message = encode_request(Request("a", 10_000, "application/octet-stream", b"x"))
    work, reply = keys.work(served.model, "default"), keys.reply(served.model, "default", "a")
    with connect(served.url) as client:
        client.xadd(work, {"m": message}, nomkstream=True)
        first: Any = eventually(lambda: client.lindex(reply, 0))
        assert client.fcall("hr1_admit", 1, work, 100, "", "", 0, 1, "a", "1", message) == [0, b"answered"]
        assert client.fcall("hr1_admit", 1, work, 100, "", "", 1, 0, "a") == [0]
        assert client.lindex(reply, 0) is None
        client.fcall("hr1_admit", 1, work, 100, "", "", 0, 1, "a", "1", message)
        second: Any = client.blpop([reply], 3)[1]
    assert decode_reply(first).outputs == decode_reply(second).outputs


@pytest.fixture
def in_parts(redis_url: str, model_name: str) -> Iterator[Served]:
    """A model of a later version: its consumer hints at parts of each answer before the whole."""
    stream = RedisStream(settings(redis_url), model_name, "worker-1")
    stream.heartbeat(card(model_name), {})
    over = threading.Event()

    def part_of(request: Request, seq: int, final: bool) -> bytes:
        output = {"name": "output", "datatype": "UINT8", "shape": [1, seq], "data": bytes(seq)}
        # whoever takes a part for the answer is to see that: it is not ok yet
        message = {"v": 1, "id": request.id, "ok": final, "seq": seq, "final": final, "outputs": [output]}
        return bytes(msgpack.packb(message))

    def serve() -> None:
        with connect(redis_url) as client:
            while not over.is_set():
                ended = []
                for entry in stream.read(100):
                    request = decode_request(entry.message or b"")
                    hints = keys.reply_stream(model_name, "default", request.reply_to or "")
                    for seq in (0, 1):
                        client.xadd(hints, {"id": request.id, "reply": part_of(request, seq, final=False)})
                    whole = part_of(request, 2, final=True)
                    ended.append(Completion(entry.entry_id, request.id, request.reply_to or "", 60_000, whole))
                if ended:
                    stream.commit(ended)

    thread = threading.Thread(target=serve)
    thread.start()
    yield Served(redis_url, model_name)
    over.set()
    thread.join()
    stream.close()


def test_the_examples_wait_for_whole_answers(in_parts: Served, tmp_path: Path) -> None:
    payload = tmp_path / "payload.bin"
    payload.write_bytes(b"hello")
    done = example(in_parts, "direct_producer.py", str(payload), in_parts.model)
    assert (done.returncode, done.stdout) == (0, "output UINT8 [1, 2]\n"), done.stderr
    done = example(in_parts, "fast_producer.py", str(payload), "--model", in_parts.model, "--count", "20")
    assert done.stdout.startswith("20 answered, 0 failed, 0 unknown"), done.stderr
    with connect(in_parts.url) as client:
        left = [client.lindex(key, 0) for key in client.scan_iter(match=keys.reply(in_parts.model, "default", "*"))]
    assert len(left) == 1  # the first example's stays


def test_the_load_generator_counts_whole_answers_only(in_parts: Served) -> None:
    payloads = (Payload("a", "application/octet-stream", b"a"),)
    scenario = Scenario(parse_target(in_parts.url), in_parts.model, payloads, 1.0, 0.0, 1, concurrency=1)
    ledger, outcomes = Ledger(), list[int]()
    address = (scenario.target.host, scenario.target.port)

    async def ask() -> int:
        ended = asyncio.Event()

        def note(index: int, outcome: int, now_s: float) -> None:
            outcomes.append(outcome)
            ended.set()

        carrier = StreamCarrier(scenario, ledger, address, note)
        await carrier.open()
        carrier.launch(ledger.open(0.0, 0.0, 0, warm=False), 0.0)
        await ended.wait()
        await carrier.shut()
        return carrier.parsed_replies

    assert asyncio.run(ask()) == 1
    assert outcomes == [OK]
