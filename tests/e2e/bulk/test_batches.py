"""Bulk batches against a running stack: all formats, results while it runs, cancelling, bad uploads, other tenants."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from producer_api.routes.batches import LEAST_BYTES_PER_S, PATIENCE_S, is_too_slow
from shared.api_keys import digest_of
from shared.redis.client import connect
from tests.e2e.bulk.site import JPEG, JSON_LINES, Answer, Site, line, number_of, numbered, zipped
from tests.e2e.stack import Process
from tests.helpers import eventually

ALICE, BOB = "hr_alice-alice-alice", "hr_bob-bob-bob"
KEYS = "".join(
    f'[keys.{name}]\nsha256 = "{digest_of(key.encode()).hex()}"\nlane = "{name}"\n'
    for name, key in (("alice", ALICE), ("bob", BOB))
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("bulk")) as running:
        running.start("imagenet")
        yield running


@pytest.fixture(scope="module")
def echo(site: Site) -> Process:
    """The consumer of ``echo``, which some tests stop for a while."""
    consumer = site.stack.start_consumer("echo")
    eventually(lambda: site.ask("GET", "/v1/models/echo").status == 200)
    return consumer


@pytest.fixture
def held(echo: Process) -> Iterator[Process]:
    """That consumer while it answers nothing; a test may let it go on."""
    echo.signal(signal.SIGSTOP)
    yield echo
    echo.signal(signal.SIGCONT)


def test_one_bad_line_in_ten_thousand_errs_alone(site: Site, echo: Process) -> None:
    lines = numbered(10_000).splitlines(keepends=True)
    lines[4321] = b'{"inputs": [\n'
    path = site.begin("echo", b"".join(lines))
    counts = site.ended(path)["counts"]
    assert counts == {"total": 10_000, "done": 10_000, "failed": 1, "in_flight": 0, "waiting": 0}
    results = site.lines(path)
    assert [one["index"] for one in results] == list(range(10_000))
    bad = results.pop(4321)
    assert (bad["status"], bad["error"]["code"]) == (400, "malformed")
    assert "JSON" in bad["error"]["message"]
    assert [number_of(one) for one in results] == [number for number in range(10_000) if number != 4321]
    assert sorted(site.stored(path)) == list(range(10_000))


def test_every_form_of_a_line(site: Site, echo: Process) -> None:
    body = json.loads(line(b"ab"))
    forms = [
        body,
        {"id": "mine", "body": body},
        {"custom_id": "theirs", "method": "POST", "url": "/v1/models/echo/predict", "body": body},
        {**body, "parameters": {"id": "as-a-request"}},
        {"id": "elsewhere", "url": "/v1/models/other/predict", "body": body},
        {"inputs": [], "parameters": {}},
    ]
    path = site.begin("echo", "\n".join(map(json.dumps, forms)).encode())  # the last line needs no end
    site.ended(path)
    results = site.lines(path)
    assert [one.get("id") for one in results] == [None, "mine", "theirs", "as-a-request", "elsewhere", None]
    assert [one["status"] for one in results] == [200, 200, 200, 200, 422, 422]
    assert [one["error"]["field"] for one in results[4:]] == ["url", "inputs"]


def test_a_zip_of_photographs(site: Site) -> None:
    files = {"a.jpg": JPEG, "b/c.jpg": JPEG + b"!", "notes.txt": b"no photograph", "inner.zip": zipped({"x.jpg": JPEG})}
    path = site.begin("imagenet", zipped(files, zipfile.ZIP_DEFLATED), "application/zip")
    assert site.ended(path)["counts"]["failed"] == 2
    results = site.lines(path)
    assert [one["id"] for one in results] == list(files)
    assert [one["response"]["outputs"][0]["data"] for one in results[:2]] == [[len(JPEG)], [len(JPEG) + 1]]
    assert {one["error"]["message"] for one in results[2:]} == {"This is not a JPEG, PNG or WebP file."}


def test_a_multipart_of_photographs(site: Site) -> None:
    parts = [
        b'Content-Disposition: form-data; name="f"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n' + JPEG,
        b'Content-Disposition: form-data; name="f"; filename="b"\r\nContent-Type: application/octet-stream\r\n\r\n'
        + JPEG,
        b'Content-Disposition: form-data; name="f"; filename="c.gif"\r\nContent-Type: image/gif\r\n\r\nGIF89a',
    ]
    upload = b"".join(b"--xx\r\n" + part + b"\r\n" for part in parts) + b"--xx--\r\n"
    path = site.begin("imagenet", upload, "multipart/form-data; boundary=xx")
    site.ended(path)
    assert [(one["id"], one["status"]) for one in site.lines(path)] == [("a.jpg", 200), ("b", 200), ("c.gif", 415)]


def test_large_items_go_past_the_function_and_come_back_by_their_key(site: Site, echo: Process) -> None:
    large = [bytes([number]) * 40_000 for number in range(40)]
    path = site.begin("echo", b"".join(map(line, large)))
    site.ended(path)
    assert [bytes(one["response"]["outputs"][0]["data"]) for one in site.lines(path)] == large
    with connect(site.server.url) as client:
        assert eventually(lambda: not client.keys("hr:{echo}:r:default:*") or None)


def test_results_can_be_read_while_it_runs_and_gone_on_with(site: Site, held: Process) -> None:
    with connect(site.server.url) as client:
        path = site.begin("echo", numbered(500))
        eventually(lambda: site.state(path)["counts"]["in_flight"] or None)
        assert site.lines(path) == site.lines(path, "?order=completion") == []
        assert client.xlen("hr:{echo}:q:default") <= 1024
    held.signal(signal.SIGCONT)
    seen: list[int] = []
    offset = "0"
    while len(seen) < 500:  # each answer begins where the last one ended
        answer = site.ask("GET", f"{path}/results?offset={offset}&limit=77")
        seen += [one["index"] for one in answer.lines]
        offset = answer.headers["headrace-next-offset"]
    assert seen == list(range(500))
    assert offset == "500"
    site.ended(path)
    by_completion = site.lines(path, "?order=completion")
    assert sorted(one["index"] for one in by_completion) == list(range(500))
    assert site.lines(path, "?order=completion&offset=100&limit=50") == by_completion[100:150]
    assert site.lines(path, "?offset=10000") == []


def test_a_cancelled_batch_keeps_what_it_has_and_leaves_the_lane(site: Site, held: Process) -> None:
    path = site.begin("echo", line(b"x") * 3000 + b"no json\n")
    eventually(lambda: site.state(path)["counts"]["in_flight"] or None)
    assert site.ask("DELETE", path).json["state"] in ("cancelling", "cancelled")
    state = site.ended(path, "cancelled")
    assert state["counts"]["waiting"] == state["counts"]["in_flight"] == 0
    held.signal(signal.SIGCONT)
    with connect(site.server.url) as client:
        assert eventually(lambda: client.xlen("hr:{echo}:q:default") == 0 or None)
    assert len(site.lines(path)) == state["counts"]["done"] < 3000
    again = site.ask("DELETE", path)
    assert (again.status, again.code) == (409, "batch_ended")


def test_a_batch_of_a_paused_model_waits_and_says_so(site: Site, echo: Process) -> None:
    wish = "hr:{echo}:wish"
    with connect(site.server.url) as client:
        client.hset(wish, "serving", "paused")
        try:
            eventually(lambda: site.ask("GET", "/v1/models/echo").json["serving"] == "paused" or None)
            path = site.begin("echo", numbered(100))
            state = eventually(lambda: found if "paused" in (found := site.state(path)).get("reason", "") else None)
            assert (state["state"], state["counts"]["in_flight"], state["counts"]["waiting"]) == ("running", 0, 100)
            assert client.xlen("hr:{echo}:q:default") == 0  # room for others, and no item's time runs
        finally:
            client.hdel(wish, "serving")
    assert "reason" not in site.ended(path)


def test_one_request_of_the_same_lane_waits_for_few_items(site: Site, held: Process) -> None:
    path = site.begin("echo", numbered(5000))
    eventually(lambda: site.state(path)["counts"]["in_flight"] or None)
    held.signal(signal.SIGCONT)
    assert site.ask("POST", "/v1/models/echo/predict", b"now", Content_Type="application/octet-stream").status == 200
    site.ended(path)


def test_results_live_as_long_as_asked_and_then_nothing_is_left(site: Site, echo: Process) -> None:
    path = site.begin("echo", numbered(10), Headrace_Keep="1s")
    batch_id = path.rpartition("/")[2]
    assert eventually(lambda: site.ask("GET", path).status == 404 or None)
    assert site.ask("GET", f"{path}/results").code == "unknown_batch"
    with connect(site.server.url) as client:
        assert [key for key in client.keys(f"*{batch_id}*") if b":rs:" not in key] == []  # that one goes by itself
    assert not list(site.results.glob(f"batches/*/*/{batch_id}"))


REFUSED = {
    "an empty upload": (b"\n\n", JSON_LINES, 422, "no items"),
    "a name that leads out": (zipped({"../x.jpg": JPEG}), "application/zip", 422, "leads out"),
    "a bomb": (zipped({"x.jpg": bytes(20 << 20)}, zipfile.ZIP_DEFLATED), "application/zip", 413, "100 times"),
    "half of a zip": (zipped({"x.jpg": JPEG * 9})[:80], "application/zip", 400, "not complete"),
    "half of a form": (b"--xx\r\n\r\nabc", "multipart/form-data; boundary=xx", 400, "last boundary"),
    "a form without a boundary": (b"--xx--", "multipart/form-data", 400, "boundary"),
    "another type": (b"a", "text/csv", 415, "text/csv"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_upload_that_is_refused_leaves_nothing(site: Site, what: str) -> None:
    body, content_type, status, says = REFUSED[what]
    before = site.ask("GET", "/v1/models/imagenet/batches").json
    answer = site.send("imagenet", body, content_type)
    assert (answer.status, answer.json["error"]["message"].count(says)) == (status, 1), answer.body
    assert site.ask("GET", "/v1/models/imagenet/batches").json == before
    assert not list(site.results.glob("batches/*/*/*/in"))


def test_an_upload_that_stops_half_way_leaves_nothing(site: Site, echo: Process) -> None:
    address = urlsplit(site.stack.url)
    before = site.ask("GET", "/v1/models/echo/batches").json
    with socket.create_connection((address.hostname, address.port), 10) as client:
        head = f"POST /v1/models/echo/batches HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: {JSON_LINES}\r\n"
        client.sendall(head.encode() + b"Content-Length: 10000000\r\n\r\n" + numbered(5000))
        eventually(lambda: list(site.results.glob("batches/echo/*/*/in/*")) or None)
    assert eventually(lambda: site.ask("GET", "/v1/models/echo/batches").json == before or None)
    assert eventually(lambda: not list(site.results.glob("batches/echo/*/*/in")) or None)


def test_an_upload_in_chunks_needs_no_length(site: Site, echo: Process) -> None:
    address = urlsplit(site.stack.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    pieces = iter([numbered(200)[:777], numbered(200)[777:]])
    path = "/v1/models/echo/batches"
    connection.request("POST", path, pieces, {"Content-Type": JSON_LINES}, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["counts"]["total"]) == (201, 200)
    connection.close()


def test_what_trickles_in_is_given_up_after_a_while() -> None:
    assert not is_too_slow(0, PATIENCE_S)
    assert is_too_slow(1000, PATIENCE_S + 1)
    assert not is_too_slow(LEAST_BYTES_PER_S * 100, 99)


def refused_as(answer: Answer, status: int, code: str) -> bool:
    return answer.status == status and answer.code == code


@pytest.mark.soak
def test_clients_that_never_read_their_results_keep_the_others_from_nothing(site: Site, echo: Process) -> None:
    path = site.begin("echo", b"".join(line(bytes([number]) * 60_000) for number in range(60)))  # 13 MB of results
    site.ended(path)
    address = urlsplit(site.stack.url)
    silent = [socket.create_connection((address.hostname, address.port), 10) for _ in range(40)]
    try:
        for one in silent:
            one.sendall(f"GET {path}/results HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        eventually(lambda: refused_as(site.ask("GET", f"{path}/results"), 503, "overloaded"))
        assert site.ask("POST", "/v1/models/echo/predict", b"x", Content_Type="application/octet-stream").status == 200
        assert site.state(path)["state"] == "completed"
    finally:
        for one in silent:
            one.close()
    assert (
        len(eventually(lambda: answer.lines if (answer := site.ask("GET", f"{path}/results")).status == 200 else None))
        == 60
    )


def test_bounds_of_an_upload(site: Site, echo: Process) -> None:
    kept = site.stack.url
    try:
        site.start(BULK_ITEMS="10", BULK_MB="1", MAX_BODY_BYTES="100000")
        assert site.send("echo", numbered(10)).status == 201
        many = site.send("echo", numbered(11))
        assert (many.status, many.code) == (413, "body_too_large")
        assert "10 items" in many.json["error"]["message"]
        large = site.send("echo", b" " * (1 << 20) + b"x")
        assert (large.status, large.code) == (413, "body_too_large")
        path = site.begin("echo", b'{"x": "' + b"x" * 200_000 + b'"}\n' + line(b"fine"))
        site.ended(path)
        assert [one["status"] for one in site.lines(path)] == [413, 200]
    finally:
        site.stack.latest.terminate()
        site.stack.url = kept


@pytest.mark.parametrize("query", ["?order=random", "?offset=-1", "?offset=x", "?limit=1&limit=2", "?page=3"])
def test_a_question_for_results_that_makes_no_sense(site: Site, query: str) -> None:
    answer = site.ask("GET", f"/v1/models/imagenet/batches/b-1/results{query}")
    assert (answer.status, answer.code) == (400, "malformed")


@pytest.mark.parametrize(
    ("header", "value"), [("Headrace_Keep", "8d"), ("Headrace_Keep", "x"), ("Content_Encoding", "gzip")]
)
def test_a_header_that_makes_no_sense(site: Site, header: str, value: str) -> None:
    answer = site.send("imagenet", zipped({"a.jpg": JPEG}), "application/zip", **{header: value})
    assert (answer.status, answer.json["error"]["field"]) == (400, header.replace("_", "-"))


def test_unknown_models_and_batches(site: Site) -> None:
    assert site.send("nobody", numbered(1)).code == "unknown_model"
    assert site.ask("GET", "/v1/models/imagenet/batches/b-nothing").code == "unknown_batch"
    assert site.ask("DELETE", "/v1/models/imagenet/batches/b-nothing").code == "unknown_batch"
    assert site.ask("GET", "/v1/models/imagenet/batches/no%20name").status == 400


def test_without_a_result_store_the_setting_is_named(site: Site) -> None:
    kept = site.stack.url
    try:
        site.start(RESULTS="off")
        for method, path in (
            ("POST", "batches"),
            ("GET", "batches"),
            ("GET", "batches/b-1"),
            ("GET", "batches/b-1/results"),
        ):
            answer = site.ask(method, f"/v1/models/imagenet/{path}", b"{}" if method == "POST" else None)
            assert (answer.status, answer.code) == (501, "no_result_store")
            assert "HEADRACE_RESULTS" in answer.json["error"]["message"]
    finally:
        site.stack.latest.terminate()
        site.stack.url = kept


def test_batches_of_another_tenant_are_not_there(site: Site, echo: Process, tmp_path: Path) -> None:
    keys, kept = tmp_path / "keys.toml", site.stack.url
    keys.write_text(KEYS)
    with connect(site.server.url) as client:
        client.hset("hr:{echo}:lanes", mapping={"alice": "500,1", "bob": "500,1"})
    try:
        site.key = ALICE
        site.start(KEYS_FILE=str(keys))
        path = eventually(
            lambda: answer.headers["location"] if (answer := site.send("echo", numbered(3))).status == 201 else None
        )
        site.ended(path)
        assert len(site.lines(path)) == 3
        site.key = BOB
        for method, what in (("GET", path), ("DELETE", path), ("GET", f"{path}/results")):
            answer = site.ask(method, what)
            assert (answer.status, answer.code) == (404, "unknown_batch")
        assert site.ask("GET", "/v1/models/echo/batches").json == {"batches": []}
        site.key = ""
        assert site.ask("GET", path).status == 401
    finally:
        site.key = ""
        site.stack.latest.terminate()
        site.stack.url = kept
