"""The processes of the storm [I/O]: a server, front ends and consumers, started again by a supervisor of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from shared import keys
from shared.redis.client import RedisError, connect_async
from shared.redis.embedded import ServerConfig, dies_with_parent, free_port
from shared.state.lanes import encode
from tests.children import ROOT, clean_environment
from tests.embedded import EmbeddedServer
from tests.storm import census
from tests.storm.model import models_file
from tests.storm.plan import LEAST_CONSUMERS, MOST_CONSUMERS, Fault, Step

RESTART_S = 0.2
LOOK_S = 0.02
READY_S = 30.0
NEW_S = 3.0
FRONT_ENDS = 2
OF_PRODUCERS = "producers"
LANES = (keys.DEFAULT_LANE, OF_PRODUCERS)
"""Front ends and simple producers use the first; fast producers have the other."""
REWRITE_AT = "16mb"
"""The append-only file is rewritten from this size on, so that this, too, happens under fire."""

SETTINGS = {
    "LEASE_MS": "1500",
    "LONGEST_BATCH_MS": "2000",
    "DEFAULT_TIMEOUT_MS": "4000",
    "MAX_TIMEOUT_MS": "8000",
    "LANE_LIMIT": "48",
    "MAX_BATCH": "16",
    "MAX_BODY_BYTES": str(4 << 20),
    "METRICS_PORT": "0",
    "TORCH_THREADS": "1",
    "LOG_LEVEL": "info",
}
HORIZON_S = 8.0 + 1.5 + 8.0 + 4 * (1.5 + 2.0) + 1.0
"""After this nothing of a request is remembered any more: twice the time to live, a lease, and four times
lease and longest batch; a second more."""


class Child:
    """One process that is started again whenever it ends.

    Attributes:
        life: counts its starts.
        troubled_s: when it was last paused or killed; who waited then may have waited long.
        died_s: when it was last killed or seen ending; connections from before are broken.
        paused: it is stopped by SIGSTOP now.
        started_s: when it was started last.
    """

    def __init__(self, name: str, argv: list[str], environment: dict[str, str], log: Path, port: int = 0) -> None:
        self.name, self.port, self.life = name, port, 0
        self._argv, self._environment, self._log = argv, environment, log
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = True
        self._supervision: asyncio.Task[None] | None = None
        self.paused = False
        self.died_s = self.troubled_s = self.started_s = -1e9

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it and keep it running."""
        self._supervision = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while self._wanted:
            self._spawn()
            assert self._process is not None
            while self._process.poll() is None:  # noqa: ASYNC110  a process has no event
                await asyncio.sleep(LOOK_S)
            self.died_s = self.troubled_s = time.monotonic()
            await asyncio.sleep(RESTART_S)

    def _spawn(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._argv],
                cwd=ROOT,
                env=clean_environment(**self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=dies_with_parent(),
            )
        self.life += 1
        self.started_s = time.monotonic()

    def send(self, number: signal.Signals) -> None:
        """Send a signal that ends it, if it runs."""
        self.died_s = self.troubled_s = time.monotonic()
        if self.pid is not None and self._process is not None:
            self._process.send_signal(number)

    async def pause(self, lasts_s: float) -> None:
        """Stop it for a while."""
        process = self._process
        if self.pid is None or process is None or self.paused:
            return
        self.paused = True
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(lasts_s)
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
        self.paused = False
        self.troubled_s = time.monotonic()

    async def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = 20.0) -> int | None:
        """End it for good; returns its exit status, None when it had to be killed.

        One that has hardly begun does not know the signal yet, and ends by it: that, too, is 0.
        """
        self._wanted = False
        process, is_new = self._process, time.monotonic() - self.started_s < NEW_S
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        give_up_s = time.monotonic() + within_s
        while process.poll() is None and time.monotonic() < give_up_s:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        status = process.poll()
        if status is None:
            process.kill()
            process.wait()
        if self._supervision is not None:
            self._supervision.cancel()
            await asyncio.gather(self._supervision, return_exceptions=True)
        return 0 if is_new and status == -number else status


class World:
    """Everything that runs.

    Args:
        folder: where data, logs and notes go.
        fsync: ``appendfsync`` of the server.

    Attributes:
        redis: a client of the storm's own.
        troubled_s: when Redis was last killed, paused or its connections cut.
        disturbed_s: when anything was last done to anybody.
    """

    def __init__(self, folder: Path, fsync: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.model = folder, f"storm-{secrets.token_hex(4)}"
        self.server = EmbeddedServer(ServerConfig(folder / "redis", free_port(), appendonly=fsync, maxmemory_mb=256))
        self.redis = connect_async(self.server.url, 5.0)
        self._environment = {
            "HEADRACE_REDIS_URL": self.server.url,
            "HEADRACE_MODELS_FILE": str(models_file(folder, self.model)),
            "HEADRACE_DATA_DIR": str(folder / "data"),
            **{f"HEADRACE_{name}": value for name, value in SETTINGS.items()},
        }
        self.front_ends: list[Child] = []
        self.consumers: list[Child] = []
        self.leaving: list[asyncio.Task[int | None]] = []
        self.troubled_s = self.disturbed_s = -1e9
        self._made = 0
        self._server_lock = asyncio.Lock()
        self._pauses: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._start_server()
        for _ in range(LEAST_CONSUMERS + 1):
            self.add_consumer()
        await self.eventually(self._workers_are(LEAST_CONSUMERS + 1), "the consumers are there")
        await self.redis.hset(keys.lanes(self.model), OF_PRODUCERS, encode(1000, 1.0))
        await self.eventually(self._has_lane, "the lane of the producers is there")
        for number in range(FRONT_ENDS):
            port = free_port()
            environment = {**self._environment, "HEADRACE_PORT": str(port)}
            log = self.folder / f"front-end-{number}.log"
            child = Child(f"front-end-{number}", ["-m", "producer_api"], environment, log, port)
            child.start()
            self.front_ends.append(child)
        await self.settled()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._pauses, return_exceptions=True)
        everybody = [*self.front_ends, *self.consumers]
        await asyncio.gather(*(child.end(signal.SIGKILL) for child in everybody), *self.leaving)
        await self.redis.aclose()
        self.server.kill()

    def add_consumer(self) -> None:
        """Start one more consumer."""
        name = f"consumer-{self._made}"
        self._made += 1
        argv = ["-m", "consumer", "--model", self.model]
        child = Child(name, argv, self._environment, self.folder / f"{name}.log")
        child.start()
        self.consumers.append(child)

    async def do(self, step: Step, rng: random.Random) -> None:
        """Inject one fault. Pauses and Redis's absence end by themselves."""
        self.disturbed_s = time.monotonic()
        match step.fault:
            case Fault.KILL_CONSUMER | Fault.KILL_FRONT_END:
                self.named(step.whom).send(signal.SIGKILL)
            case Fault.PAUSE_CONSUMER | Fault.PAUSE_FRONT_END:
                self._later(self.named(step.whom).pause(step.lasts_s))
            case Fault.RESTART_REDIS:
                self._later(self.restart_server(step.lasts_s))
            case Fault.PAUSE_REDIS:
                self._later(self._pause_server(step.lasts_s))
            case Fault.CUT_ALL | Fault.CUT_SOME:
                await self._cut(step.share, rng)
            case Fault.SCALE:
                self._scale(rng)

    def named(self, name: str) -> Child:
        """Return the front end or consumer of that name."""
        return next(child for child in (*self.front_ends, *self.consumers) if child.name == name)

    def quiet_s(self, *children: Child) -> float:
        """Return for how long nothing has happened to Redis, its connections and ``children``."""
        if self._server_lock.locked() or any(child.paused or child.pid is None for child in children):
            return 0.0
        marks = [mark for child in children for mark in (child.troubled_s, child.died_s, child.started_s)]
        return time.monotonic() - max([self.troubled_s, *marks])

    def calm_s(self) -> float:
        """Return for how long nothing has happened to anybody."""
        if self._pauses:
            return 0.0
        quiet_s = self.quiet_s(*self.front_ends, *self.consumers)
        return min(quiet_s, time.monotonic() - self.disturbed_s)

    def _later(self, step: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(step)
        self._pauses.add(task)
        task.add_done_callback(self._pauses.discard)

    async def restart_server(self, down_s: float) -> None:
        """Kill the server as a crash would, and start it again after ``down_s``."""
        async with self._server_lock:
            self.troubled_s = time.monotonic()
            await asyncio.to_thread(self.server.kill)
            await asyncio.sleep(down_s)
            await self._start_server()
            self.troubled_s = time.monotonic()

    async def _start_server(self) -> None:
        await asyncio.to_thread(self.server.start)
        with contextlib.suppress(RedisError, OSError):
            await self.redis.config_set("auto-aof-rewrite-min-size", REWRITE_AT)

    async def _pause_server(self, lasts_s: float) -> None:
        async with self._server_lock:
            self.troubled_s = time.monotonic()
            os.kill(self.server.pid, signal.SIGSTOP)
            await asyncio.sleep(lasts_s)
            os.kill(self.server.pid, signal.SIGCONT)
            self.troubled_s = time.monotonic()

    async def _cut(self, share: float, rng: random.Random) -> None:
        self.troubled_s = time.monotonic()
        with contextlib.suppress(RedisError, OSError):
            listed: Any = await self.redis.client_list()
            for one in listed:
                if rng.random() < share:
                    await self.redis.client_kill_filter(_id=one["id"], skipme=True)
        self.troubled_s = time.monotonic()

    def _scale(self, rng: random.Random) -> None:
        """One consumer more or one less, which leaves in order."""
        count = len(self.consumers)
        if count <= LEAST_CONSUMERS or (count < MOST_CONSUMERS and rng.random() < 0.5):
            self.add_consumer()
        else:
            self.leaving.append(asyncio.create_task(self._leave(self.consumers.pop())))

    async def _leave(self, child: Child) -> int | None:
        """Tell a consumer to stop. One that has not said a word yet is still a Python that imports, and just ends."""
        status = await child.end()
        has_begun = bool((self.folder / f"{child.name}.log").read_bytes())
        return 0 if status == -signal.SIGTERM and not has_begun else status

    async def _has_lane(self) -> bool:
        return bool(await self.redis.exists(keys.work(self.model, OF_PRODUCERS)))

    def _workers_are(self, count: int) -> Any:
        async def probe() -> bool:
            alive: int = await self.redis.zcard(keys.workers(self.model))
            return alive == count

        return probe

    async def eventually(self, probe: Any, what: str, within_s: float = READY_S) -> bool:
        """Ask ``probe`` until it says true; False, and a word about it, when the time is over."""
        give_up_s = time.monotonic() + within_s
        while time.monotonic() < give_up_s:
            with contextlib.suppress(RedisError, OSError):
                if await probe():
                    return True
            await asyncio.sleep(0.05)
        print(f"Not within {within_s:g} s: {what}.", file=sys.stderr)
        return False

    async def settled(self) -> bool:
        """Wait until everything that was hurt is well again: all consumers on the list, all front ends ready."""
        await asyncio.gather(*self._pauses, return_exceptions=True)

        async def front_ends_listen() -> bool:
            for child in self.front_ends:
                _, writer = await asyncio.open_connection("127.0.0.1", child.port)
                writer.close()
            return True

        return await self.eventually(
            self._workers_are(len(self.consumers)), "all consumers are there"
        ) and await self.eventually(front_ends_listen, "all front ends listen")

    def census(self) -> dict[str, census.Census]:
        """Count what each running process holds, by ``name`` and ``life``."""
        found = {}
        for child in (*self.front_ends, *self.consumers):
            if child.pid is not None:
                with contextlib.suppress(OSError):
                    found[f"{child.name}/{child.life}"] = census.take(child.pid, self.server.config.port, child.port)
        return found
