"""Clients that send too much, too slowly, ambiguously, without a key, or what is no picture: to real processes."""

from __future__ import annotations

import contextlib
import itertools
import random
import select
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared import keys
from shared.api_keys import digest_of
from shared.process.exit_codes import MODEL_CANNOT_LOAD
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.e2e.http_server import Connection
from tests.e2e.stack import Process, Stack
from tests.embedded import EmbeddedServer
from tests.fault.producer_api.impatient import PATIENCE_S
from tests.helpers import eventually
from tests.memory import resident_bytes_of
from tests.unit.consumer.models.hostile import Hostile
from tests.unit.consumer.models.pictures.test_images import encoded, png

KEY, EXPIRED, ATTIC = "hr_operator-of-the-tests", "hr_of-last-year", "hr_of-a-lane-that-is-not-there"
MEGABYTE = 1 << 20
HEAD = b"Host: test\r\nContent-Type: application/octet-stream\r\n"

wait_until = partial(eventually, limit_s=50.0)

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


class House:
    """A front end that asks for a key, and consumers of ``echo`` and of a model that tells the colour of pictures."""

    def __init__(self, stack: Stack, url: str) -> None:
        self.stack = stack
        self.redis = connect(url)
        self.front_end = stack.start_front_end()
        self.port = int(stack.url.rpartition(":")[2])
        self.echo = stack.start_consumer("echo")
        self.colour = stack.start_consumer("colour")
        wait_until(lambda: self.ask("echo", b"x")[0] == 200 and self.ask("colour", b"x")[0] == 415)

    def connect(self) -> Connection:
        return Connection(self.port)

    def ask(
        self, model: str, body: bytes, content_type: str = "application/octet-stream", headers: str = "", port: int = 0
    ) -> tuple[int, dict[str, str], Any]:
        """Send a request with the valid key, on a connection of its own."""
        headers = f"Authorization: Bearer {KEY}\r\nContent-Type: {content_type}\r\n{headers}"
        head = f"POST /v1/models/{model}/predict HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        with Connection(port or self.port) as connection:
            connection.send(head.encode() + body)
            return connection.response()

    def served(self, port: int = 0) -> bool:
        """Say whether another client is."""
        status, _, answer = self.ask("echo", b"hello", port=port)
        return status == 200 and answer["outputs"][0]["data"] == list(b"hello")

    def admitted(self, model: str = "echo") -> int:
        """How many requests have entered the lane so far."""
        found: Any = self.redis.xinfo_stream(keys.work(model, keys.DEFAULT_LANE))
        return int(found["entries-added"])

    def close(self) -> None:
        self.redis.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    models, keys_file = folder / "models.toml", folder / "keys.toml"
    models.write_text(
        '[models.echo]\nfamily = "echo"\n'
        '[models.colour]\nfamily = "python"\nentry = "examples.custom_model:create"\noptions = { places = 1 }\n'
    )
    keys_file.write_text(
        f'[keys.operator]\nsha256 = "{digest_of(KEY.encode()).hex()}"\n'
        f'[keys.guest]\nsha256 = "{digest_of(ATTIC.encode()).hex()}"\nlane = "attic"\n'
        f'[keys.past]\nsha256 = "{digest_of(EXPIRED.encode()).hex()}"\nexpires = 2020-01-01T00:00:00Z\n'
    )
    with (
        EmbeddedServer(ServerConfig(folder / "redis", free_port(), appendonly="no", maxmemory_mb=256)) as server,
        Stack(
            server.url, models, KEYS_FILE=str(keys_file), MAX_BODY_BYTES=str(8 * MEGABYTE), LOG_LEVEL="debug"
        ) as stack,
    ):
        made = House(stack, server.url)
        yield made
        made.close()


def jpeg(**options: Any) -> bytes:
    return encoded(Image.effect_noise((200, 200), 80).convert("RGB"), "JPEG", **options)


PICTURES_REFUSED = {
    "a PNG of 50,000 by 50,000": png(50_000, 50_000, 8, 2, bytes(2000)),
    "FITS": b"SIMPLE  =                    T / FITS".ljust(2880),
    "GD": b"\xff\xfe\x00\x40\x00\x40\x01\xff\xff\xff\xff" + bytes(64 * 64 * 4),
    "PSD": b"8BPS\x00\x01" + bytes(6) + b"\0\3\0\0\0\x40\0\0\0\x40\0\x08\0\3" + bytes(500),
    "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "animated GIF": encoded(Image.new("P", (9, 9)), "GIF", save_all=True, append_images=[Image.new("P", (9, 9), 1)]),
    "a JPEG cut off": jpeg()[:5000],
}


@pytest.mark.parametrize("kind", PICTURES_REFUSED)
def test_row_35_pictures_that_are_refused(house: House, kind: str) -> None:
    body = PICTURES_REFUSED[kind]
    assert len(body) < 20_000
    before = resident_bytes_of(house.colour.popen.pid)
    for _ in range(3):
        status, _, answer = house.ask("colour", body, "image/png")
        assert (status, answer["error"]["code"], answer["error"]["field"]) == (422, "invalid_input", "body")
    assert resident_bytes_of(house.colour.popen.pid) - before < 32 * MEGABYTE


def turned() -> bytes:
    """Red, as a camera held sideways writes it. That it is turned back is tested where the pixels can be seen."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (300, 100), (200, 30, 30)), "JPEG", exif=exif, quality=95)


PICTURES_DECODED = {
    "16 bits": (png(20, 20, 16, 2, (b"\0" + b"\x28\0\xa0\0\x3c\0" * 20) * 20), "green"),
    "palette": (
        encoded(Image.new("RGB", (20, 20), (230, 210, 50)).convert("P", palette=Image.Palette.ADAPTIVE)),
        "yellow",
    ),
    "CMYK": (encoded(Image.new("CMYK", (32, 32), (0, 0, 0, 255)), "JPEG"), "black"),
    "grey": (encoded(Image.new("L", (20, 20), 128)), "grey"),
    "turned by EXIF": (turned(), "red"),
}


@pytest.mark.parametrize("kind", PICTURES_DECODED)
def test_row_35_pictures_that_are_decoded_right(house: House, kind: str) -> None:
    body, colour = PICTURES_DECODED[kind]
    status, _, answer = house.ask("colour", body, "image/jpeg")
    assert (status, answer["predictions"][0]["label"]) == (200, colour)


def test_row_36_a_body_in_chunks_that_never_ends(house: House) -> None:
    """It would be 10 GB; the client stops when it sees the answer, or at 256 MB."""
    chunk = b"%x\r\n%s\r\n" % (MEGABYTE, bytes(MEGABYTE))
    before = resident_bytes_of(house.front_end.popen.pid)
    most, sent = before, 0
    with socket.create_connection(("127.0.0.1", house.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/models/echo/predict HTTP/1.1\r\n"
            + HEAD
            + b"Authorization: Bearer %s\r\n" % KEY.encode()
            + b"Transfer-Encoding: chunked\r\n\r\n"
        )
        while sent < 256 and not select.select([connection], [], [], 0)[0]:
            connection.sendall(chunk)
            sent += 1
            most = max(most, resident_bytes_of(house.front_end.popen.pid))
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer
    assert sent < 256
    assert most - before < 48 * MEGABYTE
    assert house.served()


BOMBS = {
    "a long value": b"X: " + b"a" * (128 << 10),
    "a long name": b"a" * (128 << 10) + b": b",
    "many lines": b"\r\n".join(b"X-%d: y" % number for number in range(1000)),
}
AMBIGUOUS = {
    "no Host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a malformed Host": b"GET /healthz HTTP/1.1\r\nHost: a/../b\r\n\r\n",
    "a folded header": b"GET /healthz HTTP/1.1\r\nX: a\r\n b\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_row_37_header_bombs(house: House, kind: str) -> None:
    with house.connect() as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: test\r\n" + BOMBS[kind] + b"\r\n\r\n")
        status, _, answer = connection.response()
        assert (status, answer["error"]["code"]) == (431, "headers_too_large")
        assert connection.closed()
    assert house.served()


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_row_37_malformed_heads(house: House, kind: str) -> None:
    with house.connect() as connection:
        connection.send(AMBIGUOUS[kind])
        status, _, answer = connection.response()
        assert (status, answer["error"]["code"]) == (400, "malformed")
        assert connection.closed()
    assert house.served()


def test_row_37_two_hundred_slow_clients(house: House) -> None:
    """Half of them dribble a head that never ends, half a body, all with a valid key; others do not wait for them."""
    front_end = house.stack.start_front_end("tests.fault.producer_api.impatient", MAX_IN_FLIGHT="100")
    port = int(house.stack.url.rpartition(":")[2])
    wait_until(lambda: house.served(port))
    key = b"Authorization: Bearer %s\r\n" % KEY.encode()
    whole = b"POST /v1/models/echo/predict HTTP/1.1\r\n" + HEAD + key + b"Content-Length: 60000\r\nX-Slow: 0\r\n\r\n"
    before, asked, longest_s = house.admitted(), 0, 0.0
    with contextlib.ExitStack() as held:
        heads, bodies = ([held.enter_context(Connection(port)) for _ in range(100)] for _ in range(2))
        for connection in bodies:
            connection.send(whole)
        waiting, give_up_s = [*heads, *bodies], time.monotonic() + 10 * PATIENCE_S
        for place in itertools.count():
            told = set(select.select(waiting, [], [], 0)[0])
            waiting = [connection for connection in waiting if connection not in told]
            if not waiting:
                break
            assert time.monotonic() < give_up_s, f"{len(waiting)} slow clients are still waited for"
            for connection in waiting:
                connection.send(whole[:-4][place : place + 1] or b"0")
            begun_s = time.monotonic()
            assert house.served(port)
            longest_s, asked = max(longest_s, time.monotonic() - begun_s), asked + 1
        answers = [connection.response() for connection in (*heads, *bodies)]
    assert {(status, answer["error"]["code"]) for status, _, answer in answers} == {(408, "request_timeout")}
    assert {answer["error"]["message"].partition(" was ")[0] for _, _, answer in answers[:100]} == {
        "The head of the request"
    }
    assert {answer["error"]["message"].partition(" was ")[0] for _, _, answer in answers[100:]} == {"The body"}
    assert asked > 10
    assert longest_s < PATIENCE_S  # nobody waited until the slow ones had been given up
    assert house.admitted() == before + asked
    assert front_end.terminate() == 0


SMUGGLED = b"POST /v1/models/echo/predict HTTP/1.1\r\n" + HEAD + b"Content-Length: 9\r\n\r\nsmuggled!"
PREFIXES = {
    "CL.TE": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(SMUGGLED)),
    "TE.CL": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n%x\r\n" % len(SMUGGLED),
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED),
    "two lengths in one": b"Content-Length: 0, %d\r\n\r\n" % len(SMUGGLED),
    "a folded length": b"Content-Length:\r\n 0\r\n\r\n",
    "a length with a sign": b"Content-Length: +0\r\n\r\n",
    "TE with space": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "TE twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "an unknown TE": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a bare line feed": b"X: a\nContent-Length: 0\r\n\r\n",
    "a chunk with a bare line feed": b"Transfer-Encoding: chunked\r\n\r\n0\n\n",
    "length zero": b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("authorised", [False, True])
@pytest.mark.parametrize("kind", PREFIXES)
def test_row_37_a_smuggled_request_has_no_rights(house: House, kind: str, authorised: bool) -> None:
    """The first request is read in two ways, the second has no key, whether or not the first one has.

    The express way is warm: the head of the second, but for its key, is one that it knows.
    """
    assert house.served()
    before = house.admitted()
    key = b"Authorization: Bearer %s\r\n" % KEY.encode() if authorised else b""
    outer = b"POST /v1/models/echo/predict HTTP/1.1\r\n" + HEAD + key + PREFIXES[kind]
    for whole in (outer + SMUGGLED, outer + SMUGGLED + b"\r\n0\r\n\r\n"):
        with house.connect() as connection:
            connection.send(whole)
            told = connection.rest()
        assert b"smuggled!" not in told
        assert b" 200 OK" not in told
    assert house.admitted() == before
    assert house.served()


PIECES = [
    SMUGGLED,
    b"POST /v1/models/echo/predict HTTP/1.1\r\n",
    HEAD,
    b"Content-Length: 9\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Authorization: Bearer wrong\r\n",
    b"Authorization: Bearer %s\r\n" % EXPIRED.encode(),
    b"Authorization: \r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: other\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b" ",
    b"smuggled!",
    b"9\r\nsmuggled!\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET //healthz/../v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /healthz?/v1/models HTTP/1.0\r\n\r\n",
    b"\0",
]


@pytest.mark.parametrize(
    "count", [pytest.param(400, id="short"), pytest.param(20_000, id="long", marks=pytest.mark.soak)]
)
@pytest.mark.timeout(600)
def test_row_37_no_bytes_without_a_key_reach_a_protected_path(house: House, count: int) -> None:
    """Pieces of requests in any order, some bytes changed, cut anywhere: nothing is admitted, nobody else disturbed."""
    generator = random.Random(37)
    before = house.admitted()
    asked = 0
    for number in range(count):
        sent = bytearray(b"".join(generator.choices(PIECES, k=generator.randrange(1, 9))))
        for _ in range(generator.randrange(3)):
            sent[generator.randrange(len(sent))] = generator.randrange(256)
        cut = generator.randrange(len(sent) + 1)
        with house.connect() as connection, contextlib.suppress(ConnectionError):
            connection.send(bytes(sent[:cut]))
            connection.send(bytes(sent[cut:]))
            told = connection.rest()
            assert b'"models"' not in told, bytes(sent)
            assert b"x-request-id" not in told or b" 200 " not in told.partition(b"x-request-id")[0][-200:], bytes(sent)
        if number % 20 == 0:
            assert house.served()
            asked += 1
    assert house.admitted() == before + asked
    assert house.front_end.popen.poll() is None


POST = "POST /v1/models/echo/predict"
REFUSED = [
    ("POST /v1/models/nobody/predict", "", 404, "unknown_model"),
    ("GET /v1/models/nobody", "", 404, "unknown_model"),
    ("POST /v1/models/echo/predict/", "", 404, "not_found"),
    ("GET /nothing", "", 404, "not_found"),
    (POST, "Accept: text/html\r\n", 406, "not_acceptable"),
    (POST, "Accept: application/json;q=0\r\n", 406, "not_acceptable"),
    (POST, "Content-Type: text/plain\r\n", 415, "unsupported_media_type"),
    (POST, "Content-Type: image/png\r\n", 415, "unsupported_media_type"),
    (POST, "Content-Type: \xff\r\n", 415, "unsupported_media_type"),
    (POST, "Content-Type: application/octet-stream\r\nContent-Encoding: gzip\r\n", 415, "unsupported_media_type"),
    ("GET /v1/models/echo/predict", "", 405, "method_not_allowed"),
    ("DELETE /v1/models/echo", "", 405, "method_not_allowed"),
    ("BREW /healthz", "", 400, "malformed"),
    ("PATCH /healthz", "", 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("line", "headers", "status", "code"), REFUSED)
def test_row_38_what_is_not_there_or_not_taken(house: House, line: str, headers: str, status: int, code: str) -> None:
    if "Content-Type" not in headers and line == POST:
        headers += "Content-Type: application/octet-stream\r\n"
    for _ in range(2):  # the second time its head may be known
        with house.connect() as connection:
            head = (
                f"{line} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {KEY}\r\n{headers}Content-Length: 1\r\n\r\nx"
            )
            connection.send(head.encode("latin-1"))
            found, told, answer = connection.response()
        assert (found, answer["error"]["code"]) == (status, code)
        assert set(answer["error"]) == {"code", "message", "field", "id"}
        assert answer["error"]["message"].endswith(".")
        assert ("allow" in told) == (status == 405)


def test_row_38_a_lane_that_is_not_there(house: House) -> None:
    before = house.admitted()
    with house.connect() as connection:
        for _ in range(3):
            connection.post("echo", b"x", f"Authorization: Bearer {ATTIC}\r\n")
            status, _, answer = connection.response()
            assert (status, answer["error"]["code"]) == (404, "unknown_lane")
            assert set(answer["error"]) == {"code", "message", "field", "id"}
    assert house.admitted() == before


def test_row_39_no_key_a_wrong_one_an_expired_one_and_none_of_them_is_written_down(house: House) -> None:
    wrong = "hr_a-wrong-key-that-is-secret-too"
    headers = ["", *(f"Authorization: Bearer {key}\r\n" for key in (wrong, EXPIRED, KEY[:-1], KEY + "x"))]
    before = house.admitted()
    bodies = set()
    for _ in range(3):
        for header in headers:
            with house.connect() as connection:
                for _ in range(2):
                    connection.post("echo", b"x", header)
                    status, told, answer = connection.response()
                    assert (status, told["www-authenticate"]) == (401, "Bearer")
                    answer["error"].pop("id")
                    bodies.add(str(answer))
    assert len(bodies) == 1  # nobody is told what was wrong with it
    assert house.admitted() == before
    house.ask("echo", b"x", headers=f"X-Other: {wrong}\r\n")
    with house.connect() as connection:
        connection.send(f"GET /metrics HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
        metrics = connection.response()[2].decode()
    written = "\n".join([metrics, *house.front_end.lines, *house.echo.lines])
    assert "headrace_requests_total" in metrics
    for secret in (wrong, EXPIRED, KEY, digest_of(KEY.encode()).hex()):
        assert secret not in written


@pytest.mark.soak  # each of them in this process is in tests/unit/consumer/models/test_weights.py
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_row_40_weights_that_are_a_pickle_with_code(
    valkey_url: str, tmp_path: Path, model_name: str, form: str
) -> None:
    import torch  # takes seconds, which the other tests need not wait for

    proof, weights = tmp_path / "executed", tmp_path / f"weights.{form}"
    torch.save({"weight": torch.ones(2), "bias": Hostile(proof)}, weights)
    models = tmp_path / "models.toml"
    models.write_text(
        f'[models.{model_name}]\nfamily = "torchvision"\narchitecture = "resnet18"\nweights = "{weights}"\n'
    )
    settings = {"REDIS_URL": valkey_url, "MODELS_FILE": str(models), "METRICS_PORT": "0", "DATA_DIR": str(tmp_path)}
    consumer = Process(
        ["-m", "consumer", "--model", model_name], {f"HEADRACE_{name}": value for name, value in settings.items()}
    )
    try:
        assert consumer.popen.wait(100) == MODEL_CANNOT_LOAD
        consumer.until({"pt": "a pickle can run code", "safetensors": "is not a safetensors file"}[form])
        assert not proof.exists()
    finally:
        consumer.close()
