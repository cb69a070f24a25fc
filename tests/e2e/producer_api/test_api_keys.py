"""API keys at the real server, on the ordinary way and on the express way."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from producer_api import auth
from producer_api.auth import Client, KeyCheck
from producer_api.http.express import Heads
from producer_api.http.express_protocol import ExpressProtocol
from producer_api.inference.codec import head_of
from producer_api.inference.dialects import DIALECTS
from producer_api.inference.native import NATIVE, PATH
from shared.api_keys import ApiKey, digest_of
from shared.redis.embedded import free_port
from shared.settings import Settings, SettingsError
from shared.wire.outcomes import CLIENT_LIMIT, UNAUTHORIZED, RequestError
from tests.e2e.http_server import Connection, HttpServer
from tests.e2e.stack import Process
from tests.helpers import eventually, eventually_async

ALICE, BOB = "hr_alice-alice-alice", "hr_bob-bob-bob"


def line(name: str, key: str, extra: str = "") -> str:
    return f'[keys.{name}]\nsha256 = "{digest_of(key.encode()).hex()}"\n{extra}\n'


def write(path: Path, text: str) -> None:
    """Replace the file as an operator's editor does, with another inode."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.toml"
    write(path, line("alice", ALICE, "max_in_flight = 2") + line("bob", BOB))
    return path


@pytest.fixture
def server(keys_file: Path) -> Iterator[HttpServer]:
    with HttpServer(Settings(keys_file=str(keys_file))) as running:
        yield running


def bearer(key: str) -> str:
    return f"Authorization: Bearer {key}\r\n"


def ask(connection: Connection, headers: str, body: bytes = b"abc") -> tuple[int, dict[str, str]]:
    connection.post("echo", body, headers)
    status, found, _ = connection.response()
    return status, found


WRONG = [
    "",
    bearer("hr_wrong"),
    bearer(""),
    bearer(ALICE + "x"),
    bearer(ALICE[:-1]),
    bearer("x" * 4000),
    f"Authorization: {ALICE}\r\n",
    f"Authorization: Basic {ALICE}\r\n",
    f"X-Api-Key: {ALICE}\r\n",
    bearer(ALICE) + bearer("hr_wrong"),
    bearer(ALICE) + bearer(ALICE),
]


@pytest.mark.parametrize("headers", WRONG, ids=range(len(WRONG)))
def test_without_a_valid_key_it_is_401_again_and_again(server: HttpServer, headers: str) -> None:
    with server.connect() as connection:
        for _ in range(3):
            status, found = ask(connection, headers)
            assert status == 401
            assert found["www-authenticate"] == "Bearer"
    assert server.queue.submitted == []


def test_a_valid_key_is_let_in_on_both_ways(server: HttpServer) -> None:
    with server.connect() as connection:
        for _ in range(5):
            assert ask(connection, bearer(ALICE))[0] == 200
        assert ask(connection, f"authorization: bearer {BOB}\r\n")[0] == 200
        # The same head but for the key, which is among the bytes that are remembered.
        for key, status in ((ALICE, 200), (ALICE[:-1] + "X", 401), (ALICE, 200), (ALICE[:-1] + "X", 401)):
            assert ask(connection, bearer(key))[0] == status


def test_an_idempotency_key_is_its_clients_own(server: HttpServer) -> None:
    def once(key: str, body: bytes) -> tuple[int, str]:
        with server.connect() as connection:
            status, found = ask(connection, bearer(key) + "Idempotency-Key: order-17\r\n", body)
            return status, found["x-request-id"]

    (_, hers), (_, his) = once(ALICE, b"hers"), once(BOB, b"his")  # he would be told that another body came before
    assert hers != his
    assert (once(ALICE, b"hers"), once(BOB, b"his")) == ((200, hers), (200, his))
    assert once(ALICE, b"his")[0] == 422
    assert len(server.queue.submitted) == 2


@pytest.mark.parametrize(
    "target", ["/v1/models", "/v1/models/echo", "/metrics", "/version", "/nothing", "/healthz/", "//healthz"]
)
def test_what_needs_a_key(server: HttpServer, target: str) -> None:
    status, _, body = server.get(target)
    assert (status, body["error"]["code"]) == (401, "unauthorized")
    with server.connect() as connection:
        connection.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n{bearer(BOB)}\r\n".encode())
        assert connection.response()[0] == (404 if target in ("/nothing", "/healthz/", "//healthz") else 200)


@pytest.mark.parametrize("target", ["/healthz", "/readyz", "/docs", "/openapi.json"])
def test_what_needs_none(server: HttpServer, target: str) -> None:
    status, _, body = server.get(target)
    assert status == 200
    if target in ("/healthz", "/readyz"):
        assert "imagenet" not in json.dumps(body)


def readiness(server: HttpServer, headers: str) -> tuple[int, Any]:
    with server.connect() as connection:
        connection.send(f"GET /readyz HTTP/1.1\r\nHost: test\r\n{headers}\r\n".encode())
        status, _, body = connection.response()
        return status, body


@pytest.mark.parametrize("headers", WRONG, ids=range(len(WRONG)))
def test_without_a_key_readiness_is_yes_or_no(server: HttpServer, headers: str) -> None:
    assert readiness(server, headers) == (200, {"ready": True, "redis": None, "reasons": [], "models": []})
    server.queue.set_workers("echo", 0)
    server.queue.set_workers("imagenet", 0)
    reasons = ["Not ready; with a valid API key the reasons are told."]
    no = (503, {"ready": False, "redis": None, "reasons": reasons, "models": []})
    assert readiness(server, headers) == no
    server.queue.redis_ok = False
    assert readiness(server, headers) == no


def test_with_a_key_readiness_tells_everything(server: HttpServer) -> None:
    status, body = readiness(server, bearer(BOB))
    assert (status, body["ready"], body["redis"]) == (200, True, True)
    assert [model["name"] for model in body["models"]] == ["echo", "imagenet"]
    server.queue.redis_ok = False
    assert readiness(server, bearer(BOB))[1]["reasons"] == ["Redis does not answer."]


def test_a_keys_requests_go_to_its_lane(keys_file: Path) -> None:
    write(keys_file, line("alice", ALICE, 'lane = "gold"') + line("bob", BOB))
    with HttpServer(Settings(keys_file=str(keys_file))) as server, server.connect() as connection:
        for _ in range(2):  # the ordinary way, and the express way
            connection.post("echo", b"abc", bearer(ALICE))
            status, _, body = connection.response()
            assert (status, body["error"]["code"]) == (404, "unknown_lane")
        assert ask(connection, bearer(BOB))[0] == 200
        server.queue.create_lane("echo", "gold")
        for _ in range(2):
            assert ask(connection, bearer(ALICE))[0] == 200
        assert server.queue.lanes_used == ["default", "gold", "gold"]
        write(keys_file, line("alice", ALICE) + line("bob", BOB))
        eventually(lambda: (ask(connection, bearer(ALICE)), server.queue.lanes_used[-1])[1] == "default")


def test_a_removed_key_falls_on_an_open_connection_and_comes_back(server: HttpServer, keys_file: Path) -> None:
    whole = keys_file.read_text()
    with server.connect() as connection:
        assert [ask(connection, bearer(ALICE))[0] for _ in range(3)] == [200] * 3
        write(keys_file, line("bob", BOB))
        eventually(lambda: ask(connection, bearer(ALICE))[0] == 401)
        assert ask(connection, bearer(BOB))[0] == 200
        write(keys_file, whole)
        eventually(lambda: ask(connection, bearer(ALICE))[0] == 200)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "\0", "[keys.alice]"])
def test_no_file_ends_the_watch_for_the_next(
    server: HttpServer, keys_file: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    write(keys_file, text)
    eventually(lambda: "the old keys stay in force" in caplog.text)
    with server.connect() as connection:
        assert ask(connection, bearer(ALICE))[0] == 200
        write(keys_file, line("bob", BOB))
        eventually(lambda: ask(connection, bearer(ALICE))[0] == 401)


def test_a_file_that_is_broken_or_gone_leaves_the_old_keys_in_force(
    keys_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key_check = KeyCheck(str(keys_file))
    write(keys_file, "[keys.alice]\nsha256 = 'hr_secret'")
    with caplog.at_level(logging.INFO):
        key_check.refresh()
        key_check.refresh()
        assert key_check.check([b"Bearer " + ALICE.encode()]).key.name == "alice"
        keys_file.unlink()
        key_check.refresh()
        key_check.refresh()
        assert key_check.check([b"Bearer " + ALICE.encode()]).key.name == "alice"
        write(keys_file, line("bob", BOB))
        key_check.refresh()
    with pytest.raises(RequestError):
        key_check.check([b"Bearer " + ALICE.encode()])
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR", "INFO"]
    assert "hr_secret" not in caplog.text


def test_a_key_expires_by_itself_and_what_was_remembered_falls(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    write(path, line("alice", ALICE, "expires = 2030-01-01T00:00:00Z"))
    now_s = [1893456000.0 - 1]
    key_check = KeyCheck(str(path), lambda: now_s[0])
    heads = Heads(DIALECTS, 1000, key_check=key_check)
    headers = [(b"content-length", b"3"), (b"authorization", b"Bearer " + ALICE.encode())]
    heads.learn(b"head", b"/v1/models/echo/predict", headers)
    assert heads.get(b"head") is not None
    now_s[0] += 1
    with pytest.raises(RequestError):
        key_check.check([headers[1][1]])
    key_check.refresh()
    assert heads.get(b"head") is None
    heads.learn(b"head", b"/v1/models/echo/predict", headers)
    assert heads.get(b"head") is None


def test_a_head_with_a_wrong_key_is_never_remembered(keys_file: Path) -> None:
    heads = Heads(DIALECTS, 1000, key_check=KeyCheck(str(keys_file)))
    right, length = b"Bearer " + ALICE.encode(), (b"content-length", b"3")
    for value in (b"Bearer wrong", b"", right):
        heads.learn(value, b"/v1/models/echo/predict", [length, (b"authorization", value)])
    heads.learn(b"none", b"/v1/models/echo/predict", [length])
    assert [value for value in (b"Bearer wrong", b"", right, b"none") if heads.get(value)] == [right]


def test_a_client_has_a_limit_of_its_own_and_gets_its_room_back(keys_file: Path) -> None:
    with HttpServer(Settings(keys_file=str(keys_file))) as server, ExitStack() as held:
        queue = server.queue
        queue.hold()
        waiting = [held.enter_context(server.connect()) for _ in range(2)]
        for connection in waiting:
            connection.post("echo", b"abc", bearer(ALICE))
        eventually(lambda: len(queue.submitted) == 2)
        with server.connect() as third:
            status, found = ask(third, bearer(ALICE))
            assert (status, found["retry-after"]) == (429, "1")
        other = held.enter_context(server.connect())
        other.post("echo", b"abc", bearer(BOB))
        eventually(lambda: len(queue.submitted) == 3)
        server.release()
        assert [connection.response()[0] for connection in (*waiting, other)] == [200] * 3
        assert ask(waiting[0], bearer(ALICE))[0] == 200


def test_a_revoked_client_is_refused_even_when_its_head_is_still_at_hand() -> None:
    client = Client(ApiKey("a", bytes(32), max_in_flight=1))
    assert head_of(PATH, NATIVE, {"model": "echo"}, b"", {}, client).client is client
    client.enter()
    with pytest.raises(RequestError) as full:
        client.enter()
    client.leave()
    client.revoked = True
    with pytest.raises(RequestError) as gone:
        client.enter()
    assert (full.value.outcome, gone.value.outcome) == (CLIENT_LIMIT, UNAUTHORIZED)
    assert client.in_flight == 0


def test_a_file_that_cannot_be_used_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_KEYS_FILE: .*missing\.toml cannot be used: No such file"):
        KeyCheck(str(tmp_path / "missing.toml"))


def test_an_expired_key_is_as_good_as_none_on_both_ways(keys_file: Path) -> None:
    over = datetime.now(UTC) - timedelta(days=1)
    write(keys_file, line("alice", ALICE, f"expires = {over.isoformat()}") + line("bob", BOB))
    with HttpServer(Settings(keys_file=str(keys_file))) as server, server.connect() as connection:
        for key, status in ((ALICE, 401), (ALICE, 401), (BOB, 200), (BOB, 200), (ALICE, 401)):
            assert ask(connection, bearer(key))[0] == status
        assert len(server.queue.submitted) == 2


class Patient(ExpressProtocol):
    """Waits long for the rest of a body."""

    patience_s = 60.0


def test_a_key_that_falls_while_the_body_is_on_its_way_lets_nothing_in(keys_file: Path) -> None:
    """The head is known and its key was good when it came; the request begins when its body is here."""
    settings = Settings(keys_file=str(keys_file))
    with HttpServer(settings, Patient) as server, server.connect() as connection, server.connect() as other:
        head = f"POST /v1/models/echo/predict HTTP/1.1\r\nHost: test\r\n{bearer(ALICE)}Content-Length: 3\r\n"
        head += "Content-Type: application/octet-stream\r\n\r\n"
        for _ in range(3):
            connection.send(head.encode() + b"abc")
            assert connection.response()[0] == 200
        connection.send(head.encode() + b"l")
        server.settle()
        assert any(one._partial is not None for one in server.connections())  # it is on the express way
        write(keys_file, line("bob", BOB))
        eventually(lambda: ask(other, bearer(ALICE))[0] == 401)
        connection.send(b"ow")
        assert connection.response()[0] == 401
        assert b"low" not in [request.body for request in server.queue.submitted]


def test_each_refusal_compares_once_whatever_is_sent(keys_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of steps, and not the time they take, which no test can tell from noise."""
    over = "expires = 2020-01-01T00:00:00Z"
    write(keys_file, line("alice", ALICE, over) + "".join(line(f"n{i}", f"hr_{i}") for i in range(100)))
    key_check = KeyCheck(str(keys_file))
    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def counting(one: bytes, two: bytes) -> bool:
        compared.append((len(one), len(two)))
        return real(one, two)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for sent in (
        [],
        [b""],
        [b"Bearer "],
        [b"Bearer hr_wrong"],
        [b"Bearer " + ALICE.encode()],
        [b"x" * 9000],
        [b"a", b"b"],
    ):
        with pytest.raises(RequestError) as refused:
            key_check.check(sent)
        assert refused.value.outcome is UNAUTHORIZED
        assert compared == [(32, 32)]
        compared.clear()


def test_the_file_is_looked_at_again_whatever_happened_before(
    keys_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(auth, "RELOAD_S", 0.001)
    key_check = KeyCheck(str(keys_file))
    refresh, failures = key_check.refresh, iter([RecursionError("hr_secret"), MemoryError()])

    def sometimes() -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        refresh()

    monkeypatch.setattr(key_check, "refresh", sometimes)
    client = key_check.check([b"Bearer " + ALICE.encode()])
    write(keys_file, line("bob", BOB))

    async def watch() -> None:
        watching = asyncio.create_task(key_check.watch())
        await eventually_async(lambda: client.revoked)
        watching.cancel()

    asyncio.run(asyncio.wait_for(watch(), 10))
    assert "could not be looked at: RecursionError" in caplog.text
    assert "hr_secret" not in caplog.text


def test_no_key_is_ever_logged(keys_file: Path, tmp_path: Path, valkey_url: str) -> None:
    """A real front end that logs all it can, and heads that are wrong in every way."""
    port = free_port()
    process = Process(
        ["-m", "producer_api"],
        {
            "HEADRACE_REDIS_URL": valkey_url,
            "HEADRACE_PORT": str(port),
            "HEADRACE_KEYS_FILE": str(keys_file),
            "HEADRACE_LOG_LEVEL": "debug",
        },
    )
    secrets = [ALICE, "hr_wrong-secret", "hr_in-the-path", "hr_twice"]
    try:
        process.until("Serving on")
        for target, headers in (
            ("/v1/models/echo/predict", bearer(ALICE)),
            ("/v1/models", bearer(ALICE)),
            ("/v1/models/echo/predict", bearer("hr_wrong-secret")),
            ("/v1/models?api_key=hr_in-the-path", ""),
            ("/v1/models", bearer("hr_twice") + bearer("hr_twice")),
            ("/v1/models", f"Authorization Bearer {ALICE}\r\n"),
            ("/v1/models", f"Authorization: Bearer {ALICE}\n\r\0\r\n"),
            ("/v1/models", f"Authorization: Bearer {ALICE}\r\nContent-Length: x\r\n"),
        ):
            with Connection(port) as connection:
                connection.send(f"GET {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n".encode())
                assert ALICE.encode() not in connection.rest()
        write(keys_file, f"[keys.alice]\nsha256 = '{ALICE}'")
        process.until("cannot be used, the old keys stay in force")
        assert process.terminate() == 0
        logged = process.output()
    finally:
        process.close()
    assert "Serving on" in logged
    assert [secret for secret in secrets if secret in logged] == []


def test_no_key_shows_up_in_metrics(server: HttpServer) -> None:
    with server.connect() as connection:
        ask(connection, bearer("hr_wrong-secret"))
        ask(connection, bearer(ALICE))
        connection.send(f"GET /metrics HTTP/1.1\r\nHost: test\r\n{bearer(BOB)}\r\n".encode())
        _, _, text = connection.response()
    for secret in (ALICE, BOB, "hr_wrong-secret"):
        assert secret.encode() not in text
