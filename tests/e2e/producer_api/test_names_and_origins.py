"""Whom a front end takes itself for, and which pages it lets ask: Host, Origin, and what answers say to browsers."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator

import pytest

from producer_api.http.express_protocol import ExpressProtocol, protocol
from shared.api_keys import digest_of
from shared.settings import Settings
from tests.e2e.http.test_http_express import RAW, names, post, watched
from tests.e2e.http_server import HttpServer

KEY = "hr_a-key"
PAGE = "https://app.example"
WAYS: dict[str, type[ExpressProtocol]] = {
    "express": protocol(),
    "ordinary": protocol(_is_between_messages=lambda self: False),
}

pytestmark = pytest.mark.timeout(60)


def ask(server: HttpServer, sent: bytes) -> tuple[int, dict[str, str], object]:
    with server.connect() as connection:
        connection.send(sent)
        return connection.response()


def get(server: HttpServer, target: str, headers: str = "", method: str = "GET") -> tuple[int, dict[str, str], object]:
    return ask(server, f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with HttpServer(Settings(allowed_hosts=("api.example.org",))) as started:
        yield started


@pytest.fixture(scope="module", params=[False, True], ids=["open", "keys"])
def pages(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    """A server that pages of one origin may ask, without keys and with them."""
    file = tmp_path_factory.mktemp("keys") / "keys.toml"
    file.write_text(f'[keys.a]\nsha256 = "{digest_of(KEY.encode()).hex()}"\n')
    keys = str(file) if request.param else None
    with HttpServer(Settings(cors_origins=(PAGE, "http://localhost:3000"), keys_file=keys)) as started:
        yield started


# Host


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.1", "api"])
@pytest.mark.parametrize("head", ["GET /healthz", "GET /docs", "POST /v1/models/echo/predict", "OPTIONS /"])
def test_a_name_that_is_not_ours_is_refused(server: HttpServer, head: str, host: str) -> None:
    status, headers, body = ask(server, f"{head} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert (status, headers["connection"]) == (421, "close")
    assert isinstance(body, dict)
    assert body["error"]["code"] == "misdirected"
    assert body["error"]["field"] == "Host"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8000", "api.example.org:443"])
def test_names_that_are_ours(server: HttpServer, host: str) -> None:
    assert ask(server, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())[0] == 200


def test_the_name_in_a_target_counts(server: HttpServer) -> None:
    for target, status in (
        ("http://localhost/healthz", 200),
        ("http://evil.example/healthz", 421),
        ("http://localhost:1@evil.example/healthz", 400),
        ("http:///healthz", 400),
    ):
        assert ask(server, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())[0] == status


def test_a_later_request_on_a_connection_is_looked_at_too(server: HttpServer) -> None:
    with server.connect() as connection:
        for host, status in (("localhost", 200), ("localhost", 200), ("evil.example", 421)):
            connection.send(post(b"x").replace(b"Host: test", f"Host: {host}".encode()))
            assert connection.response()[0] == status


# What answers say to browsers


@pytest.mark.parametrize("way", sorted(WAYS))
def test_every_answer_says_nosniff(way: str) -> None:
    with HttpServer(Settings(max_body_bytes=1024), WAYS[way]) as server:
        requests = [
            post(b"x"),
            post(b"x"),
            post(b"", RAW),
            post(b"", RAW),
            post(b"x", RAW, "nobody"),
            post(bytes(2000)),
        ]
        pages = ("/healthz", "/readyz", "/docs", "/openapi.json", "/metrics", "/version", "/v1/models", "/nothing")
        requests += [f"GET {page} HTTP/1.1\r\nHost: test\r\n\r\n".encode() for page in pages]
        requests += [b"\0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"]
        requests += [b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"]
        for request in requests:
            assert ask(server, request)[1]["x-content-type-options"] == "nosniff", request[:80]


def test_the_page_runs_only_its_own_script(server: HttpServer) -> None:
    _, headers, page = get(server, "/docs")
    assert isinstance(page, bytes)
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe-inline" not in headers["content-security-policy"]
    for kind, directive in (("script", "script-src"), ("style", "style-src")):
        [found] = re.findall(rf"<{kind}>(.*?)</{kind}>".encode(), page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(found).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert not re.search(rb"<[^>]+ (?:style|on\w+)=", page)
    assert headers["referrer-policy"] == "no-referrer"


def test_what_changes_is_not_kept(server: HttpServer) -> None:
    for target in ("/readyz", "/healthz", "/metrics", "/v1/models", "/v1/models/echo", "/v1/models/echo/requests/a"):
        _, headers, _ = get(server, target)
        assert headers["cache-control"] == "no-store", target


# Origin


def test_pages_of_listed_origins_may_ask(pages: HttpServer) -> None:
    asked = (
        f"Origin: {PAGE}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n"
    )
    status, headers, _ = get(pages, "/v1/models/echo/predict", asked, "OPTIONS")
    assert (status, headers["access-control-allow-origin"], headers["vary"]) == (204, PAGE, "Origin")
    assert "POST" in headers["access-control-allow-methods"]
    assert {"authorization", "content-type"} <= set(headers["access-control-allow-headers"].lower().split(", "))
    request = post(b"hello", f"{RAW}Authorization: Bearer {KEY}\r\nOrigin: {PAGE}\r\n")
    with pages.connect() as connection:
        for _ in range(3):
            connection.send(request)
            status, headers, _ = connection.response()
            assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
            assert "X-Request-Id" in headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.evil.example", "", "\xff"])
def test_pages_of_other_origins_may_not(pages: HttpServer, origin: str) -> None:
    asked = f"Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n"
    _, headers, _ = get(pages, "/v1/models/echo/predict", asked, "OPTIONS")
    assert not [name for name in headers if name.startswith("access-control-")]
    for _ in range(2):
        _, headers, _ = ask(pages, post(b"hello", f"{RAW}Authorization: Bearer {KEY}\r\nOrigin: {origin}\r\n"))
        assert "access-control-allow-origin" not in headers
        assert headers["vary"] == "Origin"


def test_errors_may_be_read_too(pages: HttpServer) -> None:
    origin = f"Origin: {PAGE}\r\n"
    key = f"Authorization: Bearer {KEY}\r\n"
    requests = [
        post(b"x", RAW + origin + key, "nobody"),
        post(b"", RAW + origin + key),
        post(b"x", f"Content-Type: a/b\r\n{origin}{key}"),
        f"GET /nothing HTTP/1.1\r\nHost: localhost\r\n{origin}{key}\r\n".encode(),
        f"PUT /healthz HTTP/1.1\r\nHost: localhost\r\n{origin}{key}\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: localhost\r\n{origin}Content-Length: {'0' * 4300}1\r\n\r\n".encode(),
        f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{origin}\r\n".encode(),
    ]
    for request in requests:
        assert ask(pages, request)[1]["access-control-allow-origin"] == PAGE, request


def test_both_ways_say_the_same_to_pages() -> None:
    kind = watched()
    with HttpServer(Settings(cors_origins=("*",)), kind) as server, server.connect() as connection:
        for body in (b"hello", b""):
            found = []
            for extra in ("", "", "TE: trailers\r\n"):
                connection.send(post(body, f"{RAW}Origin: {PAGE}\r\n{extra}"))
                status, headers, _ = connection.response()
                found.append((status, names(headers)))
            assert found[0] == found[1] == found[2]
            assert ("access-control-allow-origin", "*") in found[0][1]
    assert len(kind.bodies) == 2


def test_without_the_setting_nothing_is_said(server: HttpServer) -> None:
    asked = f"Origin: {PAGE}\r\nAccess-Control-Request-Method: POST\r\n"
    status, headers, _ = get(server, "/v1/models/echo/predict", asked, "OPTIONS")
    assert status == 405
    assert not [name for name in headers if name.startswith("access-control-")]
