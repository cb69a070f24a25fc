"""Whatever strangers send as a head: an answer of the documented kind, and no line in the log."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.api_keys import digest_of
from shared.settings import Settings
from tests.e2e.http_server import HttpServer

KEY = "hr_a-key"

pytestmark = pytest.mark.timeout(120)


class Lines(logging.Handler):
    """What was logged from warnings on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


@pytest.fixture(scope="module")
def lines() -> Iterator[Lines]:
    handler = Lines()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module")
def open_server(lines: Lines) -> Iterator[HttpServer]:
    with HttpServer(Settings(cors_origins=("https://a.example",))) as started:
        logging.getLogger("uvicorn.error").setLevel("ERROR")  # as the front end does
        yield started


@pytest.fixture(scope="module")
def server_with_keys(lines: Lines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(f'[keys.a]\nsha256 = "{digest_of(KEY.encode()).hex()}"\n')
    with HttpServer(Settings(keys_file=str(file))) as started:
        yield started


def statuses(server: HttpServer, sent: bytes) -> list[int]:
    """Send these bytes and no more; the status of each answer."""
    with server.connect() as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(sent)
        server.settle(60)  # who says that it sends no more is gone, and gets no answer
        stream = connection.rest()
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", stream)]
    assert stream.count(b"x-content-type-options: nosniff\r\n") == len(found) - found.count(100)
    return found


def check(server: HttpServer, lines: Lines, sent: bytes) -> None:
    assert all(status < 500 or status in (503, 504) for status in statuses(server, sent)), sent
    assert lines.lines == [], sent


LONG = b"9" * 5000
ODD = [
    b"",
    LONG,
    b"0" * 4300 + b"1",
    b"-" + LONG,
    "\u0663".encode(),  # a digit, and none of ours
    b"\xff\xfe",
    b"\xc3\x28",
    b"%",
    b"%zz",
    b"%00",
    b"%0a%0d",
    b"%ff%fe",
    b"%ed%a0%80",
    b"%F0%9F%92%A9",
    b"1e999",
    b"nan",
    b"inf",
    b"1_0",
    b"0x10",
    b"+1",
    b"\t1\t",
    b";" * 500,
    b"," * 500,
    b"=" * 500,
    b'"' * 99,
    b"*/*;q=" + LONG,
    b"a/b;q=0.1;q=2;q=x",
    b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
    b"bytes=0-" + LONG,
    b"localhost:" + LONG,
    b"[::1",
    b"[" + b":" * 300 + b"]",
    b"Bearer \xe9\x80\xff",
    b"Bearer " + b"k" * 9000,
    b"basic",
]
NAMES = [
    b"Content-Length",
    b"Content-Type",
    b"Content-Encoding",
    b"Transfer-Encoding",
    b"Accept",
    b"Accept-Encoding",
    b"Authorization",
    b"Connection",
    b"Cookie",
    b"Expect",
    b"Host",
    b"Idempotency-Key",
    b"If-None-Match",
    b"Origin",
    b"Access-Control-Request-Method",
    b"Range",
    b"Sec-WebSocket-Key",
    b"TE",
    b"Trailer",
    b"traceparent",
    b"Upgrade",
    b"X-Forwarded-For",
    b"X-Request-Id",
]
PATHS = [
    b"/v1/models/echo/predict",
    b"/v1/models/echo/requests/",
    b"/v1/models/",
    b"/healthz",
    b"/readyz",
    b"/metrics",
    b"/docs",
    b"/",
    b"*",
    b"http://test/healthz",
    b"http://test",
    b"http://[::1/",
]
odd = st.one_of(st.sampled_from(ODD), st.binary(max_size=40))
query = st.lists(st.tuples(st.sampled_from([b"top_k", b"timeout_ms", b"id", b"x", b""]), odd), max_size=4).map(
    lambda pairs: b"&".join(name + b"=" + value for name, value in pairs)
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head that looks like one, with odd things in odd places."""
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"PUT", b"CONNECT", b"PRI", b"X"]))
    target = draw(st.sampled_from(PATHS)) + draw(st.one_of(st.just(b""), odd))
    target += draw(st.one_of(st.just(b""), query.map(lambda text: b"?" + text)))
    lines = [
        draw(st.sampled_from([b"Host: localhost", b"Host: test", b"Host: "])) + draw(st.sampled_from([b"", b":1"]))
    ]
    lines += [
        name + b": " + value for name, value in draw(st.lists(st.tuples(st.sampled_from(NAMES), odd), max_size=6))
    ]
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0"]))
    return method + b" " + target + b" " + version + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + draw(odd)


REST = b" HTTP/1.1\r\nHost: test\r\nContent-Type: application/octet-stream\r\nContent-Length: 1\r\n\r\nx"
LOOSE = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@LOOSE
@given(sent=heads())
def test_whatever_a_head_says_it_is_no_fault_of_ours(open_server: HttpServer, lines: Lines, sent: bytes) -> None:
    check(open_server, lines, sent)


@LOOSE
@given(sent=heads())
def test_nor_where_keys_are_asked_for(server_with_keys: HttpServer, lines: Lines, sent: bytes) -> None:
    check(server_with_keys, lines, sent.replace(b"\r\n", b"\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n", 1))
    check(server_with_keys, lines, sent)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.decode())
def test_each_odd_value_of_each_header(open_server: HttpServer, lines: Lines, name: bytes) -> None:
    first = b"" if name == b"Host" else b"Host: test\r\n"
    length = b"" if name == b"Content-Length" else b"Content-Length: 0\r\n"
    for value in ODD:
        for head in (b"POST /v1/models/echo/predict", b"POST /v1/models/nobody/predict", b"GET /v1/models"):
            check(open_server, lines, head + b" HTTP/1.1\r\n" + first + length + name + b": " + value + b"\r\n\r\n")


@pytest.mark.parametrize("target", [b"?top_k=%b", b"?timeout_ms=%b", b"?id=%b", b"?%b", b"%b", b"?top_k=1&top_k=%b"])
def test_each_odd_value_in_a_query(open_server: HttpServer, lines: Lines, target: bytes) -> None:
    for value in ODD:
        check(open_server, lines, b"POST /v1/models/echo/predict" + target % value + REST)


@pytest.mark.parametrize("target", [b"/v1/models/%b/predict", b"/v1/models/echo/requests/%b", b"/%b"])
def test_each_odd_value_in_a_path(open_server: HttpServer, lines: Lines, target: bytes) -> None:
    for value in ODD:
        check(open_server, lines, b"GET " + target % value + REST)
        check(open_server, lines, b"POST " + target % value + REST)


def test_these_tests_get_answers(open_server: HttpServer) -> None:
    assert statuses(open_server, b"GET /healthz" + REST) == [200]
    assert statuses(open_server, b"POST /v1/models/echo/predict" + REST) == [200]
    zeros = b"GET /healthz HTTP/1.1\r\nHost: test\r\nContent-Length: " + b"0" * 4300 + b"1\r\n\r\nx"
    assert statuses(open_server, zeros) == [400]
