"""Tuned in the background: what it takes, how long until all consumers have gone over, and whether anybody noticed."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.perf import scrape
from tests.perf.context import Bench, Found
from tests.perf.report.figures import Figure
from tests.perf.stack import ON_EVERY_CORE, BenchError
from tests.perf.starting import MODEL, Client, Started

CLIENTS: Final = 2
_LIMIT_S: Final = 400.0
_LOOK_S: Final = 0.5
_AFTER_S: Final = 2.0
_UP: Final = "`python -m headrace up` and clients that ask half of the time"


def measure(bench: Bench) -> Found:
    """Start with nothing found, ask half of the time, and wait until every consumer runs what was found."""
    settings = {**bench.settings, **ON_EVERY_CORE}
    folder = bench.folder / "tuning"
    with Started(folder, settings) as stack:
        clients = Clients(stack.client)
        begun_s = time.monotonic()
        try:
            running = _adopted(stack)
            took_s = time.monotonic() - begun_s
            time.sleep(_AFTER_S)
        finally:
            statuses = clients.end()
    searched_s = searched(folder)
    wrong = sum(count for status, count in statuses.items() if status != 200)
    bench.say(f"adopted after {took_s:.0f} s: {sorted(set(running))}; {statuses[200]} answers, {wrong} others")
    alike = f"different runtimes, precisions or preferred batches ({' and '.join(sorted(set(running)))})"
    return Found(
        settings=settings,
        figures=[
            Figure(what=f"`{MODEL}`, searched for the fastest runtime: processor time", unit="s", values=[searched_s],
                   command=_UP, limit=60),
            Figure(what="… adopted by all consumers, from the first answer on", unit="s", values=[took_s], command=_UP),
            Figure(what="… answered meanwhile", unit="count", values=[float(statuses[200])], command=_UP),
            Figure(what="… refused, lost or wrong meanwhile", unit="count", values=[float(wrong)], command=_UP,
                   limit=0),
            Figure(what=f"… {len(running)} consumers: {alike}", unit="count",
                   values=[float(len(set(running)))], command="their metrics", limit=1),
        ],
    )  # fmt: skip


class Clients:
    """Threads that ask, from now until they are ended; each then pauses for as long as its answer took.

    A search takes only the processor time that nobody else wants. On a machine that is never idle it would not end.
    """

    def __init__(self, client: Client) -> None:
        self._client, self._over, self._lock = client, threading.Event(), threading.Lock()
        self._statuses: Counter[int] = Counter()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def end(self) -> Counter[int]:
        """Let the last requests be answered; return how often each status came, 0 for no answer."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        return self._statuses

    def _ask(self) -> None:
        while not self._over.is_set():
            begun_s = time.monotonic()
            status = self._client.ask()
            with self._lock:
                self._statuses[status] += 1
            self._over.wait(time.monotonic() - begun_s)


def _adopted(stack: Started) -> list[str]:
    """Wait until every consumer says that it is tuned; return what each runs."""
    give_up_s = time.monotonic() + _LIMIT_S
    while time.monotonic() < give_up_s:
        time.sleep(_LOOK_S)
        with suppress(OSError):
            seen = [scrape.running(scrape.read(url)) for url in stack.metrics_urls()]
            if seen and all(seen):
                return seen
    raise BenchError(f"The consumers did not go over to what was found within {_LIMIT_S:g} s.")


def searched(folder: Path) -> float:
    """Return the processor seconds of the only search whose result is below a data folder.

    Raises:
        BenchError: there is not exactly one.
    """
    entries = list((folder / "tuned").glob("*/entry.json"))
    if len(entries) != 1:
        raise BenchError(f"{len(entries)} searches were kept, and there should be one.")
    return float(json.loads(entries[0].read_text("utf-8"))["finding"]["searched_s"])
