"""Front ends' recorders on a real server, ticked by hand."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from producer_api.console.feed.counts import Counts, Place, taken
from producer_api.console.history.reading import Reader
from producer_api.console.history.recorder import Recorder
from producer_api.console.history.rows import Row, rows_of
from producer_api.queue.interface import Catalogue, ModelState
from shared import keys
from shared.metrics.histograms import Series
from shared.metrics.waits import WAIT_BOUNDS_S
from shared.redis import functions, library
from shared.redis.client import Link, connect, connect_async
from shared.state.lanes import LaneBytes


class FrontEnd:
    """Counts what a test tells it to, and records it.

    Attributes:
        recorder, reader: the real ones.
        catalogue: what it knows of models; a test may replace it.
    """

    def __init__(self, links: Sequence[Link], *models: ModelState, limit_bytes: int = 16 << 20) -> None:
        self.catalogue = Catalogue({one.name: one for one in models}, redis_ok=True)
        self._outcomes: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._waits: defaultdict[Place, Series] = defaultdict(lambda: Series(WAIT_BOUNDS_S))
        self.recorder = Recorder(links[0], lambda: self.catalogue, self.counted, 5000, None, limit_bytes)
        self.reader = Reader(links[1], self.recorder)

    def counted(self) -> dict[Place, Counts]:
        return taken(list(self._outcomes.items()), {place: one.counts for place, one in self._waits.items()})

    def answers(self, model: str, count: int, lane: str = "default", wait_s: float = 0.004) -> None:
        """Count requests that were answered."""
        self._outcomes[model, "ok", lane] += count
        self._waits[model, lane].observe_many(wait_s, count)

    def fails(self, model: str, count: int) -> None:
        """Count requests that failed."""
        self._outcomes[model, "queue_unavailable", "default"] += count


def model_of(name: str, *lanes: str) -> ModelState:
    """What a front end knows of a model that is served."""
    every = lanes or ("default",)
    return ModelState(
        name,
        None,
        1,
        lanes=dict.fromkeys(every),
        lengths=dict.fromkeys(every, 0),
        bytes=dict.fromkeys(every, LaneBytes()),
    )


@asynccontextmanager
async def front_ends(url: str, count: int, *models: ModelState, **more: Any) -> AsyncIterator[list[FrontEnd]]:
    """Make some, each on connections of its own."""
    client = connect_async(url, 3.0)
    links = [[Link(client), Link(client)] for _ in range(count)]
    try:
        yield [FrontEnd(pair, *models, **more) for pair in links]
    finally:
        for pair in links:
            for link in pair:
                await link.close()
        await client.aclose()
        await asyncio.sleep(0)


def written(url: str, model: str) -> list[Row]:
    """Return the rows of a model's ring."""
    with connect(url) as client:
        found: Any = client.xrange(keys.history(model))
    return [row for _, row in rows_of([(entry, [*sum(fields.items(), ())]) for entry, fields in found])]


def serve(url: str, model: str, *lanes: str, worker: str = "w1", **said: str) -> None:
    """Set up lanes, with a worker that says something of itself."""
    with connect(url) as client:
        library.load(client)
        pairs = [part for pair in said.items() for part in pair]
        for lane in lanes or ("default",):
            client.fcall(functions.HEARTBEAT, 1, keys.work(model, lane), worker, 600_000, 100, len(pairs), *pairs)


async def history(front_end: FrontEnd, model: str, lane: str = "", minutes: int = 1, points: int = 360) -> Any:
    """Ask a front end for the past."""
    return json.loads(await front_end.reader.read(model, lane, minutes, points))


def seen(column: list[Any]) -> list[Any]:
    """Return what is neither unknown nor zero."""
    return [value for value in column if value]
