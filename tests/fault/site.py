"""What the faults of server and network happen to: a stack, the address of each front end, and eyes into its lane."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared import keys
from shared.redis.client import connect
from tests.e2e.stack import Process, Response, Stack, call
from tests.fault.fragile import models_file
from tests.helpers import eventually

LANE = keys.DEFAULT_LANE

# Processes start and leases run out meanwhile.
wait_until = partial(eventually, limit_s=50.0)


def port_of(url: str) -> int:
    """The port of a Redis address."""
    port = urlsplit(url).port
    assert port is not None
    return port


class Site:
    """A stack with the model of ``fragile.py``; a context manager.

    Args:
        url: of the server; front ends and consumers may be given another way to it.
    """

    def __init__(self, url: str, model: str, folder: Path, **settings: str) -> None:
        self.url, self.model, self._folder = url, model, folder
        self.stack = Stack(url, models_file(folder, model), **settings)
        self.redis = connect(url)
        self.work = keys.work(model, LANE)

    def front_end(self, **settings: str) -> str:
        """Start a front end and return its address."""
        self.stack.start_front_end(**settings)
        return self.stack.url

    def consumer(self, **settings: str) -> Process:
        """Start a consumer."""
        return self.stack.start_consumer(self.model, **settings)

    def ask(self, body: bytes, request_id: str = "", timeout_ms: int = 30_000, via: str = "") -> Response:
        """Send a request, to the latest front end if not said otherwise."""
        query = f"timeout_ms={timeout_ms}" + (f"&id={request_id}" if request_id else "")
        url = f"{via or self.stack.url}/v1/models/{self.model}/predict?{query}"
        return call(url, body, "application/octet-stream", timeout_s=60.0)

    def ready(self, via: str = "") -> bool:
        """Say whether /readyz says so and the model is known: others' models on the same server make ready, too."""
        url = via or self.stack.url
        return call(f"{url}/readyz").status == 200 == call(f"{url}/v1/models/{self.model}").status

    def hold(self) -> Path:
        """Make requests with the body ``hold`` wait until the file that this returns is gone."""
        file = self._folder / "hold"
        file.touch()
        return file

    def batches(self) -> list[list[str]]:
        """Every batch that was run, by whomever."""
        return [line.split(" ") for noted in self._folder.glob("batches-*") for line in noted.read_text().splitlines()]

    def runs_of(self, body: str) -> int:
        """How often a body was run."""
        return sum(batch.count(body) for batch in self.batches())

    def length(self) -> int:
        """Entries in the lane."""
        found: Any = self.redis.xlen(self.work)
        return int(found)

    def pending(self) -> int:
        """Entries that are claimed."""
        found: Any = self.redis.xpending(self.work, keys.GROUP)
        return int(found["pending"])

    def added(self) -> int:
        """Entries that were ever added to the lane."""
        found: Any = self.redis.xinfo_stream(self.work)
        return int(found["entries-added"])

    def newest_age_ms(self) -> int:
        """Age of the newest entry in the lane, on the server's clock."""
        found: Any = self.redis.time()
        newest: Any = self.redis.xrevrange(self.work, count=1)
        return int(found[0]) * 1000 + int(found[1]) // 1000 - int(newest[0][0].partition(b"-")[0])

    def replies(self, request_id: str) -> list[bytes]:
        """What the reply key of an id holds."""
        found: Any = self.redis.lrange(keys.reply(self.model, LANE, request_id), 0, -1)
        return list(found)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stack.__exit__(*raised)
        self.redis.close()


def metric(stack: Stack, process: Process, series: str) -> float:
    """A metric of a consumer, 0 while there is none; ``series`` is its name with all its labels."""
    lines = stack.metrics(process).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} "))


def redeliveries(stack: Stack, model: str, process: Process) -> float:
    """What a consumer counts as taken over."""
    return metric(stack, process, f'headrace_redeliveries_total{{model="{model}"}}')


def body_of(answer: Response) -> bytes:
    """What the model gave back; fails when the answer is none."""
    assert answer.status == 200, answer.body
    return bytes(answer.body["outputs"][0]["data"])
