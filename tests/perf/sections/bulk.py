"""Bulk batches beside a producer that keeps the queue full: the same items, the same consumers, in turns."""

from __future__ import annotations

import http.client
import io
import time
import zipfile
from urllib.parse import urlsplit

import msgspec

from tests.perf.context import Bench, Found
from tests.perf.load import Payload, produce, told
from tests.perf.report.figures import Figure
from tests.perf.report.maths import ratios
from tests.perf.stack import AS_CHOSEN, ON_EVERY_CORE, BenchError, Stack

ECHO_ITEMS = 20_000
PHOTOS = 2_000
LIMIT_S = 300.0
_LOOK_S = 0.1


class _Counts(msgspec.Struct):
    failed: int


class _Info(msgspec.Struct):
    """What of a batch's state matters here."""

    id: str
    state: str
    counts: _Counts
    started_at: float = 0.0
    ended_at: float = 0.0


def form_of(body: bytes, count: int) -> tuple[bytes, str]:
    """Return a multipart upload with as many raw items, and its type."""
    part = b"--xx\r\nContent-Type: application/octet-stream\r\n\r\n" + body + b"\r\n"
    return part * count + b"--xx--\r\n", "multipart/form-data; boundary=xx"


def zip_of(picture: bytes, count: int) -> tuple[bytes, str]:
    """Return a zip with as many copies, and its type."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as made:
        for number in range(count):
            made.writestr(f"{number}.jpg", picture)
    return target.getvalue(), "application/zip"


def rate(stack: Stack, model: str, upload: bytes, content_type: str, count: int) -> float:
    """Run one batch; returns its items per second, from the first item in the lane to the last stored result.

    Raises:
        BenchError: an item failed, or the time is up.
    """
    path = f"/v1/models/{model}/batches"
    info = _ask(stack, "POST", path, upload, content_type)
    give_up_s = time.monotonic() + LIMIT_S
    while info.state != "completed":
        if time.monotonic() > give_up_s or info.state == "failed":
            raise BenchError(f"A batch of {model} is {info.state} after {LIMIT_S:g} s.")
        time.sleep(_LOOK_S)
        info = _ask(stack, "GET", f"{path}/{info.id}")
    if info.counts.failed:
        raise BenchError(f"{info.counts.failed} items of a batch failed.")
    return count / (info.ended_at - info.started_at)


def _ask(stack: Stack, method: str, path: str, body: bytes | None = None, content_type: str = "") -> _Info:
    address = urlsplit(stack.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=LIMIT_S)
    try:
        connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    if answer.status not in (200, 201):
        raise BenchError(f"{method} {path} came to {answer.status}: {content[:200]!r}.")
    return msgspec.json.decode(content, type=_Info)


def measure(bench: Bench) -> Found:
    """Measure echo and photographs, each in turns with a full queue."""
    settings = {**bench.settings, **ON_EVERY_CORE}
    found = Found(settings=settings)
    echo, photographs = bench.echo(), bench.photographs()
    items, photos = bench.either(ECHO_ITEMS, 5000), bench.either(PHOTOS, 300)
    _compare(bench, found, settings, echo, form_of(echo.files[0].read_bytes(), items), items, 1000, bench.either(9, 2))
    upload = zip_of(photographs.files[0].read_bytes(), photos)
    _compare(bench, found, {**settings, **AS_CHOSEN}, photographs, upload, photos, 128, bench.either(3, 1))
    return found


def _compare(
    bench: Bench,
    found: Found,
    settings: dict[str, str],
    payload: Payload,
    upload: tuple[bytes, str],
    count: int,
    in_flight: int,
    rounds: int,
) -> None:
    model = payload.model
    full: list[float] = []
    bulk: list[float] = []
    with Stack((model,), settings, bench.found) as stack:
        for number in bench.rounds(rounds, f"bulk {model}", 120.0):
            window = produce(stack, payload, bench.either(3.0, 1.0), in_flight=in_flight)
            full.append(window.rate_per_s)
            bulk.append(rate(stack, model, *upload, count))
            bench.say(f"round {number} of {rounds}: full queue {told(window)}; batch of {count:,}: {bulk[-1]:,.0f}/s")
    found.figures += [
        Figure(what=f"`{model}`, queue always full", unit="per_s", values=full, higher_is_better=True,
               command=f"""`python -m tests.perf.programs.direct '{{"model": "{model}", …}}'`"""),
        Figure(what=f"`{model}`, a bulk batch of {count:,}", unit="per_s", values=bulk, higher_is_better=True,
               command=f"`POST /v1/models/{model}/batches`"),
        Figure(what="… over the full queue", unit="percent", values=ratios(bulk, full), higher_is_better=True,
               limit=0.9, command="both, in turns"),
    ]  # fmt: skip
