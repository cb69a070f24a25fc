"""mosec and LitServe beside Headrace: the same payload, the same network, in turns in one run.

They live in an environment of their own under `.headrace/bench/`, which is made when it is missing.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.children import clean_environment
from tests.perf import load
from tests.perf.context import Bench, Found
from tests.perf.load import Payload, told
from tests.perf.peers.names import WEIGHTS
from tests.perf.report.figures import Figure
from tests.perf.report.maths import middle, ratios
from tests.perf.stack import AS_CHOSEN, ON_EVERY_CORE, WORK, BenchError, Process, Stack
from tests.perf.windows import Window

PINS: Final = ("mosec==0.9.8", "litserve==0.2.19")
SAME: Final = ("torch", "torchvision", "numpy")
MODEL: Final = "bench-mobilenet"
VENV: Final = WORK / "peers-venv"
PYTHON: Final = VENV / "bin" / "python"
_INSTALL_LIMIT_S: Final = 1800.0
_START_LIMIT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Contest:
    """What all are asked to do. `limit` is what ours is to reach over mosec's, where there is such a target."""

    kind: str
    connections: int
    limit: float | None = None

    @property
    def told(self) -> str:
        """Return it in words."""
        what = "echo, 64 bytes" if self.kind == "echo" else f"`{MODEL}`, raw pixels"
        return f"{what}, {self.connections} connections"


CONTESTS: Final = (Contest("echo", 32), Contest("echo", 64), Contest("echo", 128), Contest("model", 48, 3.3))
ECHO_LIMIT: Final = 0.6
"""What echo is to reach of mosec's rate, at the number of connections that suits Headrace best."""
NAMES: Final = ("Headrace", "mosec", "LitServe")


def measure(bench: Bench) -> Found:
    """Start all of them, check that they agree, and load them in turns."""
    _prepare(bench)
    settings = {**bench.settings, "HEADRACE_APPENDONLY": "no"}
    rates: dict[tuple[Contest, str], list[Window]] = {}
    for kind in ("echo", "model"):
        ours = settings if kind == "echo" else {**settings, **ON_EVERY_CORE, **AS_CHOSEN}
        payload = bench.echo() if kind == "echo" else bench.pixels(MODEL)
        with ExitStack() as held:
            stack = held.enter_context(Stack((payload.model,), ours, bench.found))
            urls = {"Headrace": stack.predict_url(payload.model), **_start(held, kind)}
            _check(kind, payload, urls)
            contests = [contest for contest in CONTESTS if contest.kind == kind]
            count, seconds = bench.either(4, 1), bench.either(4.0, 1.0)
            for url in urls.values():
                bench.generator.closed_at(url, payload, 32, 2.0)
            for number in bench.rounds(count, f"peers, {kind}", 120.0):
                for contest in contests:
                    for name, url in urls.items():
                        window = bench.generator.closed_at(url, payload, contest.connections, seconds)
                        rates.setdefault((contest, name), []).append(window)
                        bench.say(f"round {number} of {count}: {name}, {contest.told}: {told(window)}")
    return Found(settings={**settings, **ON_EVERY_CORE, **AS_CHOSEN}, figures=_figures(bench, rates))


def _figures(bench: Bench, rates: Mapping[tuple[Contest, str], list[Window]]) -> list[Figure]:
    figures = []
    for contest in CONTESTS:
        payload = bench.echo() if contest.kind == "echo" else bench.pixels(MODEL)
        command = bench.generator.command(payload, contest.connections)
        by_name = {name: [w.rate_per_s for w in rates[contest, name]] for name in NAMES}
        for name in NAMES:
            failed = sum(window.failed for window in rates[contest, name])
            more = f" ({failed} failed)" if failed else ""
            p99 = [w.p99_ms for w in rates[contest, name] if w.p99_ms is not None]
            figures += [
                Figure(what=f"{contest.told}: {name}{more}", unit="per_s", values=by_name[name], command=command,
                       higher_is_better=True),
                Figure(what="… p99", unit="ms", values=p99, command="the same"),
            ]  # fmt: skip
        for name in NAMES[1:]:
            figures.append(
                Figure(what=f"{contest.told}: Headrace over {name}", unit="times", command="both, in turns",
                       values=ratios(by_name["Headrace"], by_name[name]), higher_is_better=True,
                       limit=contest.limit if name == "mosec" else None)
            )  # fmt: skip
    return [*figures, best_echo(rates)]


def best_echo(rates: Mapping[tuple[Contest, str], list[Window]]) -> Figure:
    """Return ours over mosec's where that is highest. Pure."""
    echoes = [contest for contest in CONTESTS if contest.kind == "echo"]
    found = {
        contest: ratios(*([w.rate_per_s for w in rates[contest, name]] for name in ("Headrace", "mosec")))
        for contest in echoes
    }
    best = max(echoes, key=lambda contest: middle(found[contest]) or 0.0)
    return Figure(
        what=f"echo: Headrace over mosec at the best of 32, 64 and 128 connections ({best.connections})", unit="times",
        values=found[best], command="both, in turns", higher_is_better=True, limit=ECHO_LIMIT,
    )  # fmt: skip


def _prepare(bench: Bench) -> None:
    """Make the environment when it is missing or holds other versions.

    TORCH_INDEX_URL chooses where torch and torchvision come from, as for `make`.
    """
    wanted = [*PINS, *(f"{name}=={_plain(importlib.metadata.version(name))}" for name in SAME)]
    stamp = VENV / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text("utf-8")) == wanted:
        return
    bench.say(f"making {VENV.name} with {', '.join(wanted)}; a few minutes")
    load.run([sys.executable, "-m", "venv", "--clear", str(VENV)], 300.0)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    load.run([*pip, "--upgrade", "pip"], 300.0)
    if index := os.environ.get("TORCH_INDEX_URL"):
        torch = [pin for pin in wanted if pin.startswith("torch")]
        load.run([*pip, "--index-url", index, *torch], _INSTALL_LIMIT_S)
    load.run([*pip, *wanted], _INSTALL_LIMIT_S)
    stamp.write_text(json.dumps(wanted), "utf-8")


def _plain(version: str) -> str:
    """Return a version without its local part: 2.15.0 for 2.15.0+cpu."""
    return version.partition("+")[0]


def _start(held: ExitStack, kind: str) -> dict[str, str]:
    """Start both peers with a worker for each core, and return where they answer."""
    weights = WORK / "peers-weights.pt"
    if kind == "model":
        load.run([sys.executable, "-m", "tests.perf.peers.export", str(weights)], 120.0)
    environment = {**clean_environment(), WEIGHTS: str(weights), "PYTHONPATH": ""}
    workers, ports = str(os.cpu_count() or 1), (_free_port(), _free_port())
    scripts = Path("tests") / "perf" / "peers"
    address = ["--address", "127.0.0.1", "--port", str(ports[0]), "--log-level", "warning"]
    for argv in (
        [str(scripts / "mosec_server.py"), kind, workers, *address],
        [str(scripts / "litserve_server.py"), kind, workers, str(ports[1])],
    ):
        held.enter_context(Process(argv, environment, str(PYTHON)))
    return {"mosec": f"http://127.0.0.1:{ports[0]}/inference", "LitServe": f"http://127.0.0.1:{ports[1]}/predict"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _check(kind: str, payload: Payload, urls: Mapping[str, str]) -> None:
    """Ask each once: echo must give the bytes back, and the networks must agree on the likeliest class.

    Raises:
        BenchError: one does not answer, or they disagree.
    """
    body = payload.files[0].read_bytes()
    found = {name: _first_answer(name, url, body) for name, url in urls.items()}
    if kind == "echo":
        values = {name: answer if name != "Headrace" else _echoed(answer) for name, answer in found.items()}
        wrong = [name for name, value in values.items() if value != body]
    else:
        best = {name: best_class(json.loads(answer)) for name, answer in found.items()}
        wrong = [] if len(set(best.values())) == 1 else [f"{name} says {index}" for name, index in best.items()]
    if wrong:
        raise BenchError(f"The servers do not agree: {', '.join(wrong)}.")


def _echoed(answer: bytes) -> bytes:
    return bytes(json.loads(answer)["outputs"][0]["data"])


def best_class(answer: Any) -> int:
    """Return the class that an answer names first, in the shape of any of the three. Pure."""
    predictions = answer["predictions"] if isinstance(answer, dict) else answer
    return int(predictions[0]["index"])


def _first_answer(name: str, url: str, body: bytes) -> bytes:
    deadline_s = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < deadline_s:
        request = urllib.request.Request(url, body, {"Content-Type": load.RAW})
        with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(request, timeout=10) as response:
            answer: bytes = response.read()
            return answer
        time.sleep(0.2)
    raise BenchError(f"{name} gave no answer within {_START_LIMIT_S:g} s.")
