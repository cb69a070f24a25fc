"""Models that misbehave: the request errs alone, with a sentence, and the same consumer answers the next."""

from __future__ import annotations

import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest

from shared import keys
from shared.process.exit_codes import SOFTWARE_ERROR
from shared.redis.client import connect
from tests.e2e.stack import Stack, echo_models
from tests.fault.consumer.faulty import OUTPUTS, RAISED, RESULTS, ROWS
from tests.helpers import first

pytestmark = pytest.mark.fault

WAYS = ("inline", "pool")
FAILED = "The model failed on this input"
WRONG = "The model's answer is wrong: "
NUMBERS = [0.0, 1.0, 2.0, 3.0]


class Bench:
    """Two consumers of the same model: one makes rows where it reads, the other on its pool."""

    def __init__(self, url: str, stack: Stack, name: str) -> None:
        self.stack, self._name, self._url = stack, name, url
        self.consumers = {way: stack.start_consumer(self.model(way)) for way in WAYS}
        for way in WAYS:
            stack.wait(self.model(way))

    def model(self, way: str) -> str:
        return f"{self._name}-{way}"

    def ask(self, way: str, body: str, packed: bool = False) -> tuple[int, Any]:
        """Send ``body``; status and answer."""
        url = f"{self.stack.url}/v1/models/{self.model(way)}/predict"
        headers = {"Content-Type": "application/octet-stream"}
        if packed:
            headers["Accept"] = "application/msgpack"
        request = urllib.request.Request(url, body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30.0) as answer:
                read = msgpack.unpackb if packed else msgspec.json.decode
                return answer.status, read(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, msgspec.json.decode(error.read())

    def is_well(self, way: str) -> bool:
        """Whether a good request is answered, by the consumer that was there before."""
        status, answer = self.ask(way, "good")
        is_same = self.consumers[way].popen.poll() is None
        return status == 200 and answer["outputs"][0]["data"] == NUMBERS and is_same

    def held(self, way: str) -> int:
        """Entries of the lane that were not answered."""
        with connect(self._url) as redis:
            length: Any = redis.xlen(keys.work(self.model(way), keys.DEFAULT_LANE))
        return int(length)


@pytest.fixture(scope="module")
def bench(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One bench for all cases: what a case leaves behind is the next one's trouble, as it would be a user's."""
    file = tmp_path_factory.mktemp("faulty") / "models.toml"
    table = '[models.{name}]\nfamily = "python"\n'
    table += 'entry = "tests.fault.consumer.faulty:create"\noptions = {{ decodes = {yes} }}\n'
    name = f"faulty-{secrets.token_hex(4)}"
    file.write_text("".join(table.format(name=f"{name}-{way}", yes=str(way == "pool").lower()) for way in WAYS))
    with Stack(valkey_url, file) as stack:
        stack.start_front_end()
        yield Bench(valkey_url, stack, name)


REFUSED = {
    **{f"{step}:{how}": FAILED for step in ("decodes", "pre", "run", "post") for how in RAISED},
    "decodes:bad": FAILED,
    **{f"pre:{how}": FAILED for how in ("none", "scalar", "bytes", "dict", "bad")},
    **{f"run:{how}": FAILED for how in ("none", "dict", "scalar", "zerod", "short", "long", "bytes", "bad")},
    "post:f64": WRONG + "output y holds 32 bytes, but the shape [1, 4] of FP32 takes 16.",
    "post:f64array": WRONG + "output y is described as FP32, but its data are FP64.",
    "post:i64": WRONG + "output y is described as FP32, but its datatype is INT64.",
    "post:short": WRONG + "output y holds 6 bytes, but the shape [1, 4] of FP32 takes 16.",
    "post:wrongshape": WRONG + "output y has the shape [2, 2], not [1, 4].",
    "post:norows": WRONG + "output y has the shape [4], not [1, 4].",
    "post:float32name": WRONG + "output y is described as FP32, but its datatype is float32.",
    "post:othername": WRONG + "the model describes no output z (it describes y).",
    "post:bytes": WRONG + "output y is described as FP32, but its datatype is BYTES.",
    "post:empty": WRONG + "it has no predictions",
    "post:nothing": WRONG + "it must have either predictions or outputs",
    "post:nooutputs": WRONG + "output y is missing.",
    "post:none": WRONG + "postprocess() must return a Result, not None.",
    "post:dict": WRONG + "postprocess() must return a Result, not a dict.",
    "post:both": WRONG + "it must have either predictions or outputs",
    "post:bad": FAILED,
    "post:badname": FAILED,
    "post:baddata": FAILED,
    "post:list": WRONG + "the data of output y must be bytes or an array of FP32, not a list.",
    "post:text": WRONG + "predictions[0].score must be a number, not a str.",
    "post:row": WRONG + "predictions[0].row must be a row of the request, from 0 to 0.",
    "post:label": WRONG + "predictions[0].label must be text, not a bytes.",
}
GUESS = [{"label": "a", "index": 1, "score": 0.5}]
TAKEN: dict[str, Any] = {
    **dict.fromkeys(("pre:generator", "pre:array", "run:generator"), NUMBERS),
    **dict.fromkeys(("post:npdata", "post:bigendianarray", "post:noncontig", "post:npshape"), NUMBERS),
    **dict.fromkeys(("post:listshape", "post:gen"), NUMBERS),
    **dict.fromkeys(("post:npscore", "post:npindex", "post:nplabel"), GUESS),
    "post:bigendian": np.arange(4, dtype=">f4").view("<f4").tolist(),  # bytes are little-endian, whoever made them
    "post:nan": [1.0, None, None, None],
}
NOBODYS_FAULT = {"pre:empty": (422, "A request must have 1 to")}


def test_every_way_to_misbehave_has_its_answer() -> None:
    known = {f"{step}:{how}" for step in ("decodes", "pre", "run", "post") for how in RAISED} | {"decodes:bad"}
    for step, ways in (("pre", ROWS), ("run", OUTPUTS), ("post", RESULTS)):
        known |= {f"{step}:{how}" for how in ways}
    assert known == {*REFUSED, *TAKEN, *NOBODYS_FAULT}


@pytest.mark.parametrize("way", first(1, WAYS))
@pytest.mark.parametrize("body", REFUSED)
def test_the_request_errs_alone_and_the_same_consumer_answers_the_next(bench: Bench, way: str, body: str) -> None:
    assert bench.is_well(way)
    with ThreadPoolExecutor(3) as pool:
        company = [pool.submit(bench.is_well, way) for _ in range(2)]
        answers = [bench.ask(way, body), bench.ask(way, body, packed=True)]
        assert all(one.result() for one in company)
    for status, answer in answers:
        assert (status, answer["error"]["code"], answer["error"]["field"]) == (500, "model_error", None)
        assert answer["error"]["message"].startswith(REFUSED[body])
    assert bench.is_well(way)
    assert bench.held(way) == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", TAKEN)
def test_what_is_plainly_meant_is_taken_and_json_and_msgpack_say_the_same(bench: Bench, way: str, body: str) -> None:
    expected = TAKEN[body]
    status, answer = bench.ask(way, body)
    assert (status, answer.get("predictions") or answer["outputs"][0]["data"]) == (200, expected)
    status, answer = bench.ask(way, body, packed=True)
    if expected is GUESS:
        assert (status, answer["predictions"]) == (200, expected)
    else:
        numbers = np.frombuffer(answer["outputs"][0]["data"], "<f4").tolist()
        assert (status, [one if np.isfinite(one) else None for one in numbers]) == (200, expected)
    assert bench.is_well(way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", NOBODYS_FAULT)
def test_no_rows_at_all_are_the_senders_matter(bench: Bench, way: str, body: str) -> None:
    expected, message = NOBODYS_FAULT[body]
    status, answer = bench.ask(way, body)
    assert (status, answer["error"]["code"]) == (expected, "invalid_input")
    assert answer["error"]["message"].startswith(message)
    assert bench.is_well(way)


def test_the_log_names_the_request_and_shows_where_the_model_failed(bench: Bench) -> None:
    bench.ask("pool", "pre:panic")
    consumer = bench.consumers["pool"]
    consumer.until("Preprocessing failed for request ")
    assert "called `Option::unwrap()` on a `None` value" in consumer.text()
    assert "faulty.py" in consumer.text()


def test_a_process_that_lost_a_stage_ends_with_its_cause_in_the_log(
    valkey_url: str, tmp_path: Path, model_name: str
) -> None:
    with Stack(valkey_url, echo_models(tmp_path, model_name), LEASE_MS="1000") as stack:
        stack.start_front_end()
        consumer = stack.start_consumer(model_name, module="tests.fault.consumer.crashing_consumer")
        stack.wait(model_name)
        stack.predict(model_name, b"crash", query="?timeout_ms=300")
        assert consumer.popen.wait(30) == SOFTWARE_ERROR
        consumer.until("stage crashed; the consumer ends so that it is started again.")
        consumer.until("SystemExit: 0")
        last = consumer.output().splitlines()[-1]  # what a supervisor repeats
        assert last.endswith("The consumer ends with status 70 because of SystemExit(0)")
