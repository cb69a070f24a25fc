"""``python -m tests.storm --minutes 10 --seed 1``: exit status 1 when anything was lost, wrong or left over."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from shared.process.exit_codes import SOFTWARE_ERROR
from tests.storm import audit
from tests.storm.census import Census
from tests.storm.direct import FastProducer, SimpleProducer
from tests.storm.hostile import Hostile
from tests.storm.inquiry import Inquiry
from tests.storm.ledger import End, Kind, Ledger, Task
from tests.storm.plan import Step, draw
from tests.storm.rest import Load, RestClient
from tests.storm.show import Show
from tests.storm.world import HORIZON_S, LANES, World

CLIENTS = {Kind.OWN: 8, Kind.KEY: 6, Kind.MADE: 12}
SIMPLE_PRODUCERS, FAST_PRODUCERS, FAST_AT_ONCE = 6, 2, 20
EVERY_S = 1.0
CALM_S = 3.0
LULL_EVERY_S, LULL_S = 300.0, 14.0
"""Every five minutes nothing is done for so long: then nothing excuses a request that is not answered in its time."""
FINISH_S = 120.0
FIRST_SHARE = 2 / 3
"""For the rest of the time one process of each kind is spared, so that what leaks has time to show."""
SAMPLE_S = 10.0
EXITS = (0, SOFTWARE_ERROR, -signal.SIGKILL, -signal.SIGSEGV)
"""How a consumer that was told to stop may end: in order, hung because it was paused, killed meanwhile."""


@dataclass
class Storm:
    """One storm, from its beginning to the audit."""

    lasts_s: float
    seed: int
    fsync: str
    folder: Path
    ledger: Ledger = field(default_factory=Ledger)
    faults: list[tuple[float, str]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, Census] = field(default_factory=dict)
    redis_bytes: int = 0
    found: dict[str, Any] = field(default_factory=dict)

    async def run(self) -> None:
        """Rage, wait for the end of everything, look at what is left."""
        self._rng = random.Random(self.seed)
        self._show = Show(self.ledger, self.lasts_s)
        self._begun_s = time.monotonic()
        async with World(self.folder, self.fsync) as world:
            self.redis_bytes = int((await world.redis.info("memory"))["used_memory"])
            self._load = load = Load(self.ledger, asyncio.Event())
            self._hostile = Hostile(world, self.ledger)
            inquiry = Inquiry(world, self.ledger, load.stop)
            sampling = asyncio.create_task(self._sample(world))
            clients = [asyncio.create_task(client.run()) for client in self._clients(world, load, inquiry)]
            clients.append(asyncio.create_task(inquiry.watch()))
            await self._calm(clients, CALM_S)
            await self._rage(world, clients, CALM_S + self.lasts_s * FIRST_SHARE, [])
            await self._lull(world, clients, CALM_S)
            self.before = world.census()
            spared = [world.front_ends[0].name, world.consumers[0].name]
            await self._rage(world, clients, self.lasts_s + CALM_S, spared)
            load.stop.set()
            await self._hostile.close()
            await self._finish(clients)
            await inquiry.close()
            if not await world.settled():
                self.ledger.breach("does not recover", "Not everything came back after the storm.")
            await self._audit(world)
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
            statuses = [task.result() for task in world.leaving if task.done()]
            for status in statuses:
                if status not in EXITS:
                    self.ledger.breach("exit status", f"A consumer that was told to stop ended with {status}.")
        self._show.close()

    def _clients(self, world: World, load: Load, inquiry: Inquiry) -> list[Any]:
        rngs = iter(random.Random(f"{self.seed}/{number}") for number in range(1000))
        made: list[Any] = []
        for kind, count in CLIENTS.items():
            shared = load, inquiry, world.front_ends, world.model, kind
            made += [RestClient(*shared, next(rngs)) for _ in range(count)]
        common = load, world.server.url, world.model
        made += [SimpleProducer(*common, LANES[0], next(rngs)) for _ in range(SIMPLE_PRODUCERS)]
        made += [FastProducer(*common, LANES[1], next(rngs), FAST_AT_ONCE) for _ in range(FAST_PRODUCERS)]
        return made

    async def _poison_is_over(self) -> None:
        """Whoever is to live through the rest must not die of a request either."""
        for _ in range(int(FINISH_S)):
            if not any(case.task is Task.KILL for case in self.ledger.open.values()):
                break
            await asyncio.sleep(1.0)

    async def _lull(self, world: World, clients: list[asyncio.Task[None]], lasts_s: float) -> None:
        """Let everything get well, and do nothing for a while; nothing is poisonous any more."""
        self._load.poison = False
        await world.settled()
        await self._poison_is_over()
        await self._calm(clients, lasts_s)

    async def _calm(self, clients: list[asyncio.Task[None]], lasts_s: float) -> None:
        self._show.fault("calm")
        await asyncio.sleep(lasts_s)
        self._calmed_s = time.monotonic()
        for client in clients:
            if client.done():
                client.result()  # a fault of the storm's own

    async def _rage(self, world: World, clients: list[asyncio.Task[None]], until_s: float, spared: list[str]) -> None:
        poison = self._load.poison
        while time.monotonic() - self._begun_s < until_s:
            names = [child.name for child in world.consumers], [child.name for child in world.front_ends]
            step = draw(self._rng, *names, spared)
            await self._do(world, step)
            self.faults.append((round(time.monotonic() - self._begun_s, 3), str(step)))
            self._show.fault(str(step))
            await asyncio.sleep(EVERY_S)
            for client in clients:
                if client.done():
                    client.result()
            if time.monotonic() - self._calmed_s > LULL_EVERY_S:
                await self._lull(world, clients, LULL_S)
                self._load.poison = poison

    async def _do(self, world: World, step: Step) -> None:
        """Inject one fault. A hostile client is no excuse for anybody, so the world does not know of it."""
        if step.hostility is not None:
            self._hostile.begin(step.hostility, world.named(step.whom))
        else:
            await world.do(step, self._rng)

    async def _finish(self, clients: list[asyncio.Task[None]]) -> None:
        """Let the clients ask to the end; what is not known then is lost."""
        self._show.fault("the storm is over; the clients ask to the end")
        _, late = await asyncio.wait(clients, timeout=FINISH_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in clients:
            if task not in late:
                task.result()
        for case in list(self.ledger.open.values()):
            self.ledger.close(case, End.LOST, time.monotonic())

    async def _audit(self, world: World) -> None:
        self._show.fault(f"waiting {HORIZON_S:.0f} s until nothing may be remembered any more")
        await asyncio.sleep(HORIZON_S)
        ran = audit.runs(self.folder)
        orphans = [case for case in self.ledger.cases.values() if case.end is End.ORPHANED]
        self.found = {
            "keys_left": await audit.keys_left(world, self.ledger),
            "connections_left": await audit.connections_left(world, self.ledger),
            "descriptors_left": audit.leaks(world, self.before, self.ledger),
            "dead_letters": await audit.dead_letters(world, self.ledger),
            "lived_through": sorted(world.census().keys() & self.before.keys()),
            "orphans_that_ran": sum(case.nonce in ran for case in orphans),
            "memory": await audit.memory(world, self.before, self.redis_bytes, self.ledger),
            "requests_run_more_than_once": sum(count > 1 for count in ran.values()),
            "starts": {child.name: child.life for child in (*world.front_ends, *world.consumers)},
        }

    async def _sample(self, world: World) -> None:
        while True:
            info: Any = {}
            try:
                info = await world.redis.info("memory")
            except Exception:  # it may just be away
                info = {}
            self.samples.append(
                {
                    "s": round(time.monotonic() - self._begun_s, 1),
                    "redis_bytes": info.get("used_memory"),
                    "processes": {name: asdict(one) for name, one in world.census().items()},
                }
            )
            await asyncio.sleep(SAMPLE_S)

    def document(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {
            "seed": self.seed,
            "lasts_s": self.lasts_s,
            "fsync": self.fsync,
            "clean": self.ledger.is_clean(),
            **self.ledger.document(),
            **self.found,
            "faults": self.faults,
            "samples": self.samples,
        }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", default=10.0, show_default=True, help="How long it rages; a minute more for the end.")
@click.option("--seed", default=1, show_default=True, help="Which faults, and to whom; the load, too.")
@click.option(
    "--fsync",
    type=click.Choice(["always", "everysec"]),
    default="always",
    show_default=True,
    help="appendfsync of the server; with everysec a restart of it may lose what was acknowledged.",
)
@click.option("--out", default=".headrace/storm", show_default=True, help="Folder of the ledger and the logs; emptied.")
def main(minutes: float, seed: int, fsync: str, out: str) -> None:
    """Kill, pause, restart or cut something every second, under load, and account for every request."""
    folder = Path(out).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    storm = Storm(minutes * 60, seed, fsync, folder)
    asyncio.run(storm.run())
    document = storm.document()
    (folder / "ledger.json").write_text(json.dumps(document, indent=1) + "\n")
    for name in ("seen", "breaches", "keys_left", "connections_left", "descriptors_left", "dead_letters"):
        print(f"{name.replace('_', ' ')}: {document[name] or 'none'}")
    print(f"{len(storm.faults)} faults, seed {seed}; the ledger is {folder / 'ledger.json'}")
    for sentence in storm.ledger.broken:
        print(f"BROKEN: {sentence}")
    sys.exit(0 if storm.ledger.is_clean() else 1)


if __name__ == "__main__":
    main()
