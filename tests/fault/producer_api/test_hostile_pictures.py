"""Pictures that are made to take a consumer away, and inputs that never end: to real processes, beside others."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from consumer.pipeline.decoding.threads import MOST_WRITTEN_OFF
from shared import keys
from shared.redis.client import connect
from shared.wire.messages import Request, decode_reply, encode_request
from tests.e2e.stack import Process, Response, Stack
from tests.fault.producer_api import slow_decoder
from tests.helpers import eventually
from tests.unit.consumer.models.picture_files import (
    chunk,
    encoded,
    noise,
    one_colour_webp,
    png_of,
    scans_of,
    segment,
    with_chunks,
    with_segments,
)

LANE = keys.DEFAULT_LANE
MEGABYTE = 1_000_000
GOOD = 150

wait_until = partial(eventually, limit_s=50.0)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]


def peak_bytes(process: Process) -> int:
    """The most that a process has held so far."""
    status = Path(f"/proc/{process.popen.pid}/status")
    if not status.exists():
        pytest.skip("only Linux tells the peak of a process in /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.fixture
def colours(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[tuple[Stack, str, list[Process]]]:
    models = tmp_path / "models.toml"
    models.write_text(f'[models.{model_name}]\nfamily = "python"\nentry = "examples.custom_model:create"\n')
    with Stack(valkey_url, models, DECODE_MEMORY_MB="300", LEASE_MS="1500") as stack:
        stack.start_front_end()
        yield stack, model_name, [stack.start_consumer(model_name) for _ in range(2)]


def hostile() -> dict[str, bytes]:
    """Each of them took a consumer seconds, hundreds of megabytes, or its life."""
    photo, drawing = encoded(noise(64, 64), "JPEG"), encoded(noise(64, 64))
    return {
        "700 scans": scans_of(7000, 7000, 700),
        "46 bytes of WebP": one_colour_webp(7000, 7000),
        "no palette": png_of(8, 8, 8, 3, b"x"),
        "a million segments": with_segments(photo, segment(0xE5, b"") * 1_000_000),
        "a million chunks": with_chunks(drawing, chunk(b"abCd", b"") * 1_000_000),
        "more memory than there is": encoded(Image.new("RGBA", (5200, 5200), (1, 2, 3, 4))),
    }


def test_hostile_pictures_take_nothing_from_others(colours: tuple[Stack, str, list[Process]]) -> None:
    """Six of each, from as many clients at a time as there are kinds, and large ones within the limits beside them."""
    stack, model, consumers = colours
    good = encoded(noise(320, 240), "JPEG")
    wait_until(lambda: stack.predict(model, good, "image/jpeg").status == 200)
    before = [peak_bytes(process) for process in consumers]
    bad = hostile()
    large = encoded(Image.new("P", (7000, 7000), 1))  # 19 KB, 245 MB to decode, and taken
    over = threading.Event()

    def attack(body: bytes) -> Counter[int]:
        seen: Counter[int] = Counter()
        while not over.is_set() or not seen:
            seen[stack.predict(model, body, "image/jpeg", "?timeout_ms=60000").status] += 1
        return seen

    with ThreadPoolExecutor(len(bad) + 8) as pool:
        attacks = {kind: pool.submit(attack, body) for kind, body in bad.items()}
        beside = [pool.submit(attack, large) for _ in range(2)]
        answers = list(pool.map(lambda _: stack.predict(model, good, "image/jpeg").status, range(GOOD)))
        over.set()
        seen = {kind: set(one.result()) for kind, one in attacks.items()}
        taken = sum((one.result() for one in beside), Counter())
    assert Counter(answers) == {200: GOOD}
    assert seen == {kind: {422} for kind in bad}
    assert set(taken) <= {200, 503}
    assert taken[200] > 0
    assert [process.popen.poll() for process in consumers] == [None, None]
    grown = [peak_bytes(process) - start for process, start in zip(consumers, before, strict=True)]
    assert max(grown) < (300 + 150) * MEGABYTE, grown


def test_a_direct_producers_pictures_have_the_same_bounds(
    colours: tuple[Stack, str, list[Process]], valkey_url: str
) -> None:
    _, model, consumers = colours
    with connect(valkey_url) as client:
        for number, body in enumerate((scans_of(7000, 7000, 700), one_colour_webp(7000, 7000))):
            request = Request(f"direct-{number}", 30_000, "image/jpeg", body)
            client.xadd(keys.work(model, LANE), {"m": encode_request(request)})
            found: Any = client.blpop([keys.reply(model, LANE, request.id)], 30)
            fault = decode_reply(found[1]).fault
            assert fault is not None
            assert (fault.code, fault.field) == ("invalid_input", "body")
    assert [process.popen.poll() for process in consumers] == [None, None]


class Bench:
    """A model whose decoding hangs while the file `hold` is there."""

    def __init__(self, stack: Stack, url: str, model: str, folder: Path) -> None:
        self.stack, self.model, self._folder = stack, model, folder
        self.hold = folder / "hold"
        self.hold.touch()
        self.redis = connect(url)

    def ask(self, body: bytes, timeout_ms: int = 30_000) -> Response:
        return self.stack.predict(self.model, body, query=f"?timeout_ms={timeout_ms}")

    def decoded_by(self, body: str) -> list[int]:
        """The processes that have begun to decode a body, in order."""
        noted = self._folder / "decoded"
        lines = noted.read_text().splitlines() if noted.exists() else []
        return [int(line.split(" ", 1)[0]) for line in lines if line.split(" ", 1)[1] == body]

    def pending(self) -> int:
        found: Any = self.redis.xpending(keys.work(self.model, LANE), keys.GROUP)
        return int(found["pending"])


@pytest.fixture
def bench(valkey_url: str, tmp_path: Path, model_name: str) -> Iterator[Bench]:
    models = slow_decoder.models_file(tmp_path, model_name)
    with Stack(valkey_url, models, LEASE_MS="1500", LONGEST_DECODE_MS="600", WINDOW_MS="0") as stack:
        stack.start_front_end()
        made = Bench(stack, valkey_url, model_name, tmp_path)
        yield made
        made.hold.unlink(missing_ok=True)
        made.redis.close()


def assert_given_up(answer: Response) -> None:
    assert (answer.status, answer.body["error"]["code"]) == (422, "invalid_input")
    assert "took longer than 0.6 s and was given up" in answer.body["error"]["message"]


def test_what_never_ends_decoding_is_answered_and_its_consumer_lives(bench: Bench) -> None:
    consumer = bench.stack.start_consumer(bench.model)
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(4) as pool:
        hung = [pool.submit(bench.ask, b"hang-%d" % number) for number in range(2)]  # all threads for what is quick
        good = [bench.ask(b"%d" % number).status for number in range(20)]
        for one in hung:
            assert_given_up(one.result())
    assert good == [200] * 20
    assert bench.decoded_by("hang-0") == [consumer.popen.pid]
    assert bench.pending() == 0
    bench.hold.unlink()
    assert bench.ask(b"hang-0").status == 200
    assert consumer.popen.poll() is None


@pytest.mark.soak
def test_too_many_that_hang_have_the_consumer_finish_what_it_has_and_renewed(bench: Bench) -> None:
    worn = bench.stack.start_consumer(bench.model)
    bench.stack.wait(bench.model)
    for number in range(MOST_WRITTEN_OFF):
        assert_given_up(bench.ask(b"hang-%d" % number))
    assert worn.popen.wait(60) == 70
    worn.until("finishes what it has and ends")
    assert bench.pending() == 0  # nothing is left for others to try
    fresh = bench.stack.start_consumer(bench.model)
    bench.stack.wait(bench.model)
    assert bench.ask(b"good").status == 200
    assert [bench.decoded_by(f"hang-{number}") for number in range(MOST_WRITTEN_OFF)] == [
        [worn.popen.pid] for _ in range(MOST_WRITTEN_OFF)
    ]
    assert fresh.popen.poll() is None


@pytest.mark.soak
def test_what_was_taken_over_and_hangs_ends_there_while_others_are_answered(bench: Bench) -> None:
    """Its first consumer is killed in the middle of it. The second one gives it up, and no third one gets it."""
    first = bench.stack.start_consumer(bench.model, LONGEST_DECODE_MS="60000")
    bench.stack.wait(bench.model)
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(bench.ask, b"hang")
        wait_until(lambda: bench.decoded_by("hang"))
        second = bench.stack.start_consumer(bench.model)
        first.popen.kill()
        first.popen.wait()
        good = []
        while not hung.done():
            good.append(bench.ask(b"good").status)
        assert_given_up(hung.result())
    assert set(good) == {200}
    assert bench.decoded_by("hang") == [first.popen.pid, second.popen.pid]
    assert (bench.pending(), second.popen.poll()) == (0, None)
