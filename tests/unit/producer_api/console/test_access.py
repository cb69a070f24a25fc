"""Who may look at the console and who may act: by setting, key, address, proxy, name and origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer_api.console.access import MARK, Access, Role, require_operate, require_read, who
from producer_api.http.cors import Cors
from shared.api_keys import digest_of
from shared.settings import Settings
from shared.version import __version__
from tests.unit.producer_api.asgi import Api, call
from tests.unit.producer_api.asgi import Response as Answer

ACTION = [("Content-Type", "application/json"), (MARK, "1")]
KEYS = {"plain": None, "reader": "read", "operator": "operate"}


def keys_file(folder: Path) -> str:
    """Write a file with a key for each role."""
    tables = []
    for name, role in KEYS.items():
        line = "" if role is None else f'console = "{role}"\n'
        tables.append(f'[keys.{name}]\nsha256 = "{digest_of(name.encode()).hex()}"\n{line}')
    path = folder / "keys.toml"
    path.write_text("\n".join(tables))
    return str(path)


class Desk(Api):
    """An application with an endpoint that looks and one that acts."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)

        async def look(request: Request) -> Response:
            require_read(request)
            return Response(who(request))

        async def act(request: Request) -> Response:
            require_operate(request)
            return Response(who(request))

        self.app.router.routes += [Route("/look", look), Route("/act", act, methods=["POST"])]

    def look(self, headers: Sequence[tuple[str, str]] = ()) -> Answer:
        return self.get("/look", headers)

    def act(self, headers: Sequence[tuple[str, str]] = ACTION) -> Answer:
        return self._runner.run(call(self.app, "POST", "/act", headers, b"{}"))

    def session(self, headers: Sequence[tuple[str, str]] = ()) -> dict[str, object]:
        answer = self.get("/console/session", headers)
        assert answer.status == 200
        found: dict[str, object] = json.loads(answer.body)
        return found


@pytest.fixture
def with_keys(tmp_path: Path) -> Iterator[Desk]:
    with Desk(Settings(keys_file=keys_file(tmp_path))) as desk:
        yield desk


def key(name: str) -> tuple[str, str]:
    return "Authorization", f"Bearer {name}"


@pytest.mark.parametrize(
    ("setting", "host", "names", "proxied", "role"),
    [
        ("auto", "127.0.0.1", None, False, Role.OPERATE),
        ("auto", "localhost", None, False, Role.OPERATE),
        ("auto", "::1", None, False, Role.OPERATE),
        ("auto", "0.0.0.0", None, False, Role.READ),
        ("auto", "::", None, False, Role.READ),
        ("auto", "127.0.0.1", ("*",), False, Role.READ),
        ("auto", "127.0.0.1", ("a.example",), False, Role.OPERATE),
        ("auto", "127.0.0.1", None, True, Role.READ),
        ("off", "127.0.0.1", None, False, Role.NONE),
        ("read", "127.0.0.1", None, False, Role.READ),
        ("operate", "0.0.0.0", None, True, Role.OPERATE),
    ],
)
def test_without_keys_setting_and_address_decide(
    setting: str, host: str, names: tuple[str, ...] | None, proxied: bool, role: Role
) -> None:
    access = Access.of(Settings(console=setting, host=host, allowed_hosts=names))
    right = access.right(None, Headers({"x-forwarded-for": "10.0.0.1"} if proxied else {}))
    assert right.role is role
    assert (right.why == "") is (role is Role.OPERATE)


def test_keys_have_the_role_that_their_file_names(with_keys: Desk) -> None:
    assert with_keys.look([key("operator")]).body == b"operator"
    assert with_keys.look([key("reader")]).status == 200
    assert "no role on the console" in with_keys.look([key("plain")]).error["message"]
    assert with_keys.act([*ACTION, key("operator")]).body == b"operator"
    for name in ("reader", "plain"):
        answer = with_keys.act([*ACTION, key(name)])
        assert (answer.status, answer.error["code"]) == (403, "forbidden")
    assert with_keys.look().status == with_keys.act().status == with_keys.get("/console/session").status == 401
    assert with_keys.session([key("reader")]) == {
        "role": "read",
        "version": __version__,
        "models": ["echo", "imagenet"],
        "keys_required": True,
        "read_only_why": 'Your API key may look at the console and change nothing: its role there is "read".',
    }
    assert with_keys.session([key("plain")])["role"] == "none"
    assert with_keys.session([key("operator")])["read_only_why"] == ""


@pytest.mark.parametrize(
    ("setting", "name", "role"),
    [
        ("read", "operator", "read"),
        ("read", "plain", "none"),
        ("operate", "plain", "none"),
        ("operate", "reader", "read"),
        ("off", "operator", "none"),
    ],
)
def test_with_keys_the_setting_is_the_most(tmp_path: Path, setting: str, name: str, role: str) -> None:
    with Desk(Settings(keys_file=keys_file(tmp_path), console=setting)) as desk:
        assert desk.session([key(name)])["role"] == role


@pytest.mark.parametrize(
    ("headers", "status", "field"),
    [
        ([], 400, MARK),
        ([("Content-Type", "application/json")], 400, MARK),
        ([("Content-Type", "application/json"), (MARK, "0")], 400, MARK),
        ([("Content-Type", "application/json"), (MARK, "1"), (MARK, "1")], 400, MARK),
        ([(MARK, "1")], 415, "body"),
        ([(MARK, "1"), ("Content-Type", "text/plain")], 415, "body"),
        ([(MARK, "1"), ("Content-Type", "application/x-www-form-urlencoded")], 415, "body"),
        ([*ACTION, ("Origin", "http://evil.example")], 403, "Origin"),
        ([*ACTION, ("Origin", "null")], 403, "Origin"),
        ([*ACTION, ("Origin", "http://test:81")], 403, "Origin"),
        ([*ACTION, ("Origin", "http://[")], 403, "Origin"),
    ],
)
def test_what_another_site_could_send_is_refused(headers: list[tuple[str, str]], status: int, field: str) -> None:
    with Desk(Settings()) as desk:
        answer = desk.act(headers)
        assert (answer.status, answer.error["field"]) == (status, field)


def test_its_own_page_acts_and_another_does_not_even_look() -> None:
    with Desk(Settings(public_url="https://queue.example.org")) as desk:
        for origin in ("http://test", "http://test:80", "https://test", "https://queue.example.org"):
            assert desk.act([*ACTION, ("Origin", origin)]).status == 200
        assert desk.act([("Content-Type", "application/json; charset=utf-8"), (MARK, "1")]).status == 200
        assert desk.look([("Origin", "http://evil.example")]).error["code"] == "forbidden"
        assert desk.get("/console/session", [("Origin", "http://evil.example")]).status == 403


def test_no_page_of_another_origin_may_send_the_header_of_actions() -> None:
    headers = dict(Cors(("*",)).preflight(b"http://evil.example"))
    assert MARK.lower() not in headers[b"access-control-allow-headers"].decode().lower()
