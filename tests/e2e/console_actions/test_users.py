"""The console with a user of its own in Redis, as ``headrace acl`` makes its rules: with and without the rights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.redis import acl
from producer_api.console.redis_access import NO_RIGHT
from shared.redis.client import connect
from shared.redis.embedded import ServerConfig, free_port
from tests.e2e.console_actions.desk import Desk
from tests.embedded import EmbeddedServer

PASSWORD = "only-for-this-test"

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server with a front end's user for each way to make its rules."""
    with EmbeddedServer(ServerConfig(tmp_path_factory.mktemp("users"), free_port(), "no", 64)) as running:
        with connect(running.url) as client:
            for console in acl.CONSOLE:
                rule = acl.rule("front_end", f">{PASSWORD}", console=console)
                head, *selectors = rule.replace("user front_end", f"user {console}").split(" (")
                client.execute_command("ACL", "SETUSER", *head.split()[1:], *(f"({one}" for one in selectors))
        yield running


def desk_of(server: EmbeddedServer, user: str) -> Desk:
    """Return a desk whose front end is a user, while the test itself is the administrator."""
    address = server.url.replace("redis://", f"redis://{user}:{PASSWORD}@")
    return Desk(address, administrator=server.url)


def test_with_the_rights_everything_works(server: EmbeddedServer) -> None:
    with desk_of(server, "operate") as desk:
        desk.bury(3)
        assert desk.dead()["total"] == 3
        assert desk.requeue(ids=[desk.letters()[0]]).end["done"] == 1
        assert desk.drop(all=True).end["done"] == 2
        assert desk.get(f"/console/jobs?model={desk.model}").status == 200
        for paused in (True, False):
            asked = {"model": desk.model, "lane": "gold", "paused": paused}
            assert desk.post("/console/lanes/pause", asked).json == asked


def test_with_narrower_rights_it_shows_and_says_why_it_does_no_more(server: EmbeddedServer) -> None:
    with desk_of(server, "read") as desk:
        desk.bury(3)
        assert [one["request_id"] for one in desk.dead()["letters"]] == ["r2", "r1", "r0"]
        for act in (desk.requeue, desk.drop):
            end = act(all=True).end
            assert (end["done"], end["why"]) == (0, NO_RIGHT)
        refused = desk.post("/console/lanes/pause", {"model": desk.model, "lane": "gold", "paused": True})
        assert (refused.status, refused.error["message"]) == (403, NO_RIGHT)
        assert (len(desk.letters()), desk.depth()) == (3, 0)


def test_with_the_least_rights_it_does_not_show_letters(server: EmbeddedServer) -> None:
    with desk_of(server, "off") as desk:
        desk.bury(1)
        answer = desk.get(f"/console/dead?model={desk.model}")
        assert (answer.status, answer.error["message"]) == (403, NO_RIGHT)


def test_rules_follow_the_setting_where_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from headrace.acl_commands import acl as command

    def made(*arguments: str) -> str:
        ran = CliRunner().invoke(command, ["print", *arguments])
        assert ran.exit_code == 0
        return next(line for line in ran.output.splitlines() if line.startswith("user front_end "))

    monkeypatch.delenv("HEADRACE_CONSOLE", raising=False)
    assert made() == made("--console", "operate")
    monkeypatch.setenv("HEADRACE_CONSOLE", "read")
    assert made() == made("--console", "read") != made("--console", "off")
    assert "+xdel" not in made().partition("hr:{*}:dlq:*")[2]
