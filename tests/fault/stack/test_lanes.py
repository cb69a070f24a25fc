"""Lanes against each other: a flood, and a direct producer that spoils its own lane. Real consumers, real rights."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from headrace.redis import acl
from producer_api.metrics import queue_metrics
from producer_api.queue.redis_queue import RedisQueue
from shared import keys
from shared.redis import library
from shared.redis.client import RedisError, ServerError, connect
from shared.redis.embedded import ServerConfig, free_port
from shared.settings import Settings
from shared.state import lanes
from shared.wire.messages import Request, encode_request
from tests.asking import submit
from tests.children import ROOT, clean_environment
from tests.e2e.stack import Process, Stack
from tests.embedded import EmbeddedServer
from tests.helpers import eventually, eventually_async
from tests.memory import resident_bytes_of

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

BATCH_MS, BATCH = 25, 8
LIMIT = 100
GOLD, SHOP = "gold", "shop"
PASSWORD = "only-for-this-test"
HIGHEST = "18446744073709551615-18446744073709551615"
NOISES, NOISE_BYTES = 4, 40 * 1024 * 1024


class Bench:
    """A server with rights, a consumer whose batches take 25 ms, and two lanes: one of them a direct producer's."""

    def __init__(self, url: str, model: str, folder: Path) -> None:
        self.url, self.model = url, model
        self.redis = connect(url)
        self.work = keys.work(model, SHOP)
        library.load(self.redis)
        models = folder / "models.toml"
        models.write_text(
            f'[models.{model}]\nfamily = "python"\nentry = "examples.synthetic_model:create"\n'
            f"options = {{ batch_ms = {BATCH_MS}, row_ms = 0 }}\n"
        )
        for line in (
            *(acl.rule(role, f">{PASSWORD}") for role in acl.ROLES),
            acl.producer_rule(SHOP, model, SHOP, f">{PASSWORD}"),
        ):
            head, *selectors = line.split(" (")
            self.redis.execute_command("ACL", "SETUSER", *head.split()[1:], *(f"({selector}" for selector in selectors))
        self.stack = Stack(self.address("consumer"), models, LEASE_MS="1500", WINDOW_MS="0", MAX_BATCH=str(BATCH))
        self.producer = connect(self.address(SHOP))

    def address(self, user: str) -> str:
        return f"redis://{user}:{PASSWORD}@{urlsplit(self.url).netloc}/0"

    def start(self) -> Process:
        consumer = self.stack.start_consumer(self.model)
        for lane in (GOLD, SHOP):
            self.redis.hset(keys.lanes(self.model), lane, lanes.encode(LIMIT, 1.0))
        for lane in (GOLD, SHOP):
            eventually(lambda lane=lane: self.redis.exists(keys.work(self.model, lane)))  # type: ignore[misc]
        eventually(lambda: f'headrace_queue_backlog{{lane="{SHOP}"' in self.stack.metrics(consumer))
        return consumer

    def flood(self, count: int) -> None:
        """Put requests into the producer's lane, past its limit, as that producer."""
        with self.producer.pipeline(transaction=False) as pipeline:
            for number in range(count):
                request = Request(f"flood-{number}", 120_000, "application/octet-stream", b"f")
                pipeline.xadd(self.work, {keys.MESSAGE_FIELD: encode_request(request)}, nomkstream=True)
            pipeline.execute()

    def send(self, request_id: str) -> None:
        request = Request(request_id, 60_000, "application/octet-stream", b"s")
        self.producer.xadd(self.work, {keys.MESSAGE_FIELD: encode_request(request)}, nomkstream=True)

    def reply(self, request_id: str) -> Any:
        return self.producer.lindex(keys.reply(self.model, SHOP, request_id), 0)

    def depth(self) -> int:
        found: Any = self.redis.xlen(self.work)
        return int(found)

    def dead(self) -> list[bytes]:
        found: Any = self.redis.xrange(keys.dead_letters(self.model, SHOP))
        return [fields[b"reason"] for _, fields in found]

    def headrace(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the administrator."""
        return subprocess.run(
            [sys.executable, "-m", "headrace", *arguments],
            cwd=ROOT,
            env=clean_environment(HEADRACE_REDIS_URL=self.address("administrator")),
            capture_output=True,
            text=True,
            timeout=30,
        )

    @contextlib.asynccontextmanager
    async def front_end(self) -> AsyncIterator[RedisQueue]:
        settings = Settings.from_env({"HEADRACE_REDIS_URL": self.address("front_end"), "HEADRACE_LEASE_MS": "1500"})
        queue = RedisQueue(settings, queue_metrics(CollectorRegistry()))
        await queue.start()
        try:
            await eventually_async(lambda: GOLD in queue.catalogue().models[self.model].lanes)
            yield queue
        finally:
            await queue.close()

    async def waits_s(self, queue: RedisQueue, count: int, lane: str = GOLD) -> list[float]:
        """How long requests of a client wait that sends one after the other."""
        found = []
        for _ in range(count):
            begun_s = time.perf_counter()
            request = Request(secrets.token_hex(8), 60_000, "application/octet-stream", b"g")
            answer = await submit(queue, self.model, request, id_is_generated=True, lane=lane)
            assert answer.reply.fault is None
            found.append(time.perf_counter() - begun_s)
        return found

    def close(self) -> None:
        self.stack.__exit__()
        self.producer.close()
        self.redis.close()


@pytest.fixture
def bench(tmp_path: Path, model_name: str) -> Iterator[Bench]:
    with EmbeddedServer(ServerConfig(tmp_path / "redis", free_port(), "no", 512)) as server:
        made = Bench(server.url, model_name, tmp_path)
        try:
            yield made
        finally:
            made.close()


def test_row_28_a_flood_costs_the_other_lane_one_batch_at_most(bench: Bench) -> None:
    """What runs at that moment has to end; then its own batch begins, although a whole one of the flood waits."""

    async def main() -> tuple[list[float], list[float], float]:
        async with bench.front_end() as queue:
            await bench.waits_s(queue, 3)
            quiet = await bench.waits_s(queue, 40)
            bench.flood(2000)  # 50 for each of the other's, and 20 times its limit
            flooded = await bench.waits_s(queue, 40)
            assert bench.depth() > BATCH
            begun_s = time.perf_counter()
            bench.send("behind")
            assert await asyncio.to_thread(eventually, lambda: bench.reply("behind"), 60.0)
            return quiet, flooded, time.perf_counter() - begun_s

    bench.start()
    quiet, flooded, behind_s = asyncio.run(main())
    batch_s = max(statistics.median(quiet), BATCH_MS / 1000)
    assert statistics.median(flooded) < 2.6 * batch_s
    assert sorted(flooded)[int(0.9 * len(flooded))] < 4 * batch_s
    assert behind_s > 4 * statistics.median(flooded)  # who floods waits for itself


def test_row_28_a_lane_that_is_emptied_harms_nobody_else(bench: Bench) -> None:
    async def main() -> None:
        async with bench.front_end() as queue:
            waiting = asyncio.create_task(bench.waits_s(queue, 20))
            for _ in range(10):
                bench.flood(50)
                await asyncio.sleep(0.02)
                bench.producer.xadd(bench.work, {"m": b"wiped"}, maxlen=0, approximate=False)
            assert len(await waiting) == 20

    consumer = bench.start()
    asyncio.run(main())
    bench.send("after")
    assert eventually(lambda: bench.reply("after"))
    # What was claimed when it vanished is forgotten, at the latest with its lease.
    eventually(lambda: bench.redis.xpending(bench.work, keys.GROUP)["pending"] == 0)
    assert consumer.popen.poll() is None
    assert consumer.terminate() == 0


def test_row_28_a_lane_with_the_highest_id_is_repaired_by_an_operator(bench: Bench) -> None:
    bench.start()
    request = encode_request(Request("highest", 60_000, "application/octet-stream", b"h"))
    bench.producer.xadd(bench.work, {"m": request}, id=HIGHEST)
    with pytest.raises(ServerError):
        bench.send("refused")

    async def main() -> None:
        async with bench.front_end() as queue:
            assert len(await bench.waits_s(queue, 10)) == 10

    asyncio.run(main())
    [reason] = eventually(bench.dead)
    assert b"in the future" in reason
    assert b"malformed" in eventually(lambda: bench.reply("highest"))
    assert f"lane repair {bench.model} {SHOP}" in bench.headrace("doctor").stdout
    done = bench.headrace("lane", "repair", bench.model, SHOP, "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    bench.send("after")
    assert eventually(lambda: bench.reply("after"))
    asyncio.run(main())


def test_a_repair_under_load_answers_everything(bench: Bench) -> None:
    """What runs when the lane is made anew runs again, and whoever answers first counts."""
    bench.start()
    names = [f"r{number}" for number in range(60)]
    for name in names:
        bench.send(name)
    done = bench.headrace("lane", "repair", bench.model, SHOP, "--yes", "--keep", "1000")
    assert done.returncode == 0
    assert eventually(lambda: all(bench.reply(name) is not None for name in names), limit_s=30)
    assert eventually(lambda: bench.depth() == 0)
    for name in names:
        assert bench.redis.llen(keys.reply(bench.model, SHOP, name)) == 1


def test_row_28_a_guard_switches_off_who_floods(bench: Bench) -> None:
    bench.start()
    command = [sys.executable, "-m", "headrace", "lane", "guard", "--interval", "0.1"]
    environment = clean_environment(HEADRACE_REDIS_URL=bench.address("administrator"))
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as guard:
        try:

            async def flood_for_ever() -> None:
                while True:
                    bench.flood(100)
                    await asyncio.sleep(0.01)

            async def main() -> None:
                async with bench.front_end() as queue:
                    waiting = asyncio.create_task(bench.waits_s(queue, 20))
                    with pytest.raises(RedisError):
                        await flood_for_ever()
                    assert len(await waiting) == 20
                    assert len(await bench.waits_s(queue, 5)) == 5

            asyncio.run(main())
            assert guard.stdout is not None
            assert f"switched off {SHOP} " in guard.stdout.readline()
        finally:
            guard.kill()
    with pytest.raises(RedisError):
        bench.send("once-more")
    bench.redis.execute_command("ACL", "SETUSER", SHOP, "on")
    assert bench.headrace("lane", "repair", bench.model, SHOP, "--yes", "--keep", "0").returncode == 0
    bench.send("let-in-again")
    assert eventually(lambda: bench.reply("let-in-again"))


def test_row_28_what_a_lane_tells_of_cancelled_requests_fills_no_consumer(bench: Bench) -> None:
    """It is not kept, and a consumer that starts does not read it all: else one after the other would die of it."""
    consumer = bench.start()
    bench.send("before")
    assert eventually(lambda: bench.reply("before"))
    before_bytes = resident_bytes_of(consumer.popen.pid)
    ends = keys.terminations(bench.model, SHOP)
    for _ in range(NOISES):
        bench.producer.xadd(ends, {"entry": bytes(NOISE_BYTES)})
    consumer.until(f"The termination stream of lane {SHOP} takes")
    late = bench.stack.start_consumer(bench.model)
    late.until(f"The termination stream of lane {SHOP} takes")

    async def main() -> None:
        async with bench.front_end() as queue:
            assert len(await bench.waits_s(queue, 10)) == 10

    asyncio.run(main())
    for process in (consumer, late):
        grown_bytes = resident_bytes_of(process.popen.pid) - before_bytes
        assert grown_bytes < 2 * NOISE_BYTES, f"{grown_bytes} bytes"
    caught = bench.headrace("lane", "guard", "--once")
    assert (caught.returncode, f"switched off {SHOP} " in caught.stdout) == (1, True)
    assert bench.headrace("lane", "repair", bench.model, SHOP, "--yes").returncode == 0
    assert not bench.redis.exists(ends)
    consumer.until(f"The termination stream of lane {SHOP} is read again")
    bench.redis.execute_command("ACL", "SETUSER", SHOP, "on")
    bench.send("after")
    assert eventually(lambda: bench.reply("after"))


def test_row_29_a_lane_cannot_read_anothers_reply(bench: Bench) -> None:
    bench.start()

    async def main() -> None:
        async with bench.front_end() as queue:
            request = Request("secret", 60_000, "application/octet-stream", b"g")
            await submit(queue, bench.model, request, id_is_generated=False, lane=GOLD)

    asyncio.run(main())
    place, stream = keys.reply(bench.model, GOLD, "secret"), keys.reply_stream(bench.model, GOLD, "fe")
    assert bench.redis.exists(place)
    own = keys.reply(bench.model, SHOP, "secret")
    for command in (
        ("LINDEX", place, 0),
        ("BLPOP", place, 1),
        ("BLMOVE", place, own, "LEFT", "LEFT", 1),
        ("BLMOVE", place, place, "LEFT", "LEFT", 1),
        ("UNLINK", place),
        ("XREAD", "STREAMS", stream, "0"),
        ("XADD", keys.work(bench.model, GOLD), "*", "m", "x"),
        ("XADD", keys.work(bench.model, keys.DEFAULT_LANE), "*", "m", "x"),
    ):
        with pytest.raises(ServerError, match=r"(?i)no permissions"):
            bench.producer.execute_command(*command)
    assert bench.redis.exists(place)
    assert bench.producer.lindex(own, 0) is None
