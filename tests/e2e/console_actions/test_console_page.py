"""What docs/console.md and docs/operating.md say of the console's actions is run as it stands there."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from starlette.routing import Route

from tests.children import ROOT
from tests.e2e.console_actions.desk import ACTION, Desk
from tests.e2e.stack import Stack, echo_models
from tests.unit.producer_api.console.test_access import keys_file

pytestmark = pytest.mark.timeout(60)

PAGE = (ROOT / "docs/console.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs/operating.md").read_text(encoding="utf-8")


def test_the_command_of_the_page_puts_letters_back(valkey_url: str) -> None:
    [command] = [text for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "/console/dead/requeue" in text]
    with Desk(valkey_url) as desk:
        desk.bury(3)
        own = command.replace("localhost:8000", f"localhost:{desk.server.port}").replace("imagenet", desk.model)
        ran = subprocess.run(["bash", "-c", own], capture_output=True, text=True, check=True)
        assert json.loads(ran.stdout.splitlines()[-1])["done"] == 3
        assert desk.depth() == 3


def test_the_actions_of_the_page_are_those_there_are(valkey_url: str) -> None:
    named = set(re.findall(r"`(?:GET |POST )?(/console/[\w/]+)", PAGE))
    with Desk(valkey_url) as desk:
        routes = [route for route in desk.server.app.routes if isinstance(route, Route)]
        posts = {route.path for route in routes if "POST" in (route.methods or ())}
    actions = {path for path in posts if path.startswith("/console/")}
    assert len(actions) == 4
    assert actions <= named


def test_the_log_line_of_the_page_is_the_one_that_is_written(valkey_url: str, caplog: pytest.LogCaptureFixture) -> None:
    [line] = re.findall(r"^INFO (headrace\.console): (Console: requeue by .*)$", OPERATING, re.MULTILINE)
    with Desk(valkey_url) as desk:
        desk.bury(240)
        caplog.set_level("INFO", logger=line[0])
        assert desk.requeue(all=True, match="crashed").end["done"] == 240
        said = [record.getMessage() for record in caplog.records if record.name == line[0]]
        assert said == [line[1].replace("imagenet", desk.model).replace("ops", "anonymous")]


def test_every_endpoint_of_the_page_asks_for_a_role(valkey_url: str, tmp_path: Path) -> None:
    """Those of other parts, too: on a front end as it is started, with keys."""
    table = PAGE.split("| endpoint | role |")[1].split("\n\n")[0]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| `")]
    named = {
        (path if path.startswith("/") else f"/console/{path}").replace("{id}", "r1")
        for endpoints, role in rows
        for path in re.findall(r"`(?:GET |POST )?([\w/{}]+)", endpoints)
        if role.strip() != "any"
    }
    assert len(named) == 10
    assert {"/console/events", "/console/state", "/console/history", "/console/requests/r1"} <= named
    settings = {"KEYS_FILE": keys_file(tmp_path), "CONSOLE": "auto"}
    with Stack(valkey_url, echo_models(tmp_path, "echo"), **settings) as stack:
        stack.start_front_end()
        for path in sorted(named):
            method = "POST" if path.count("/") == 3 and "requests" not in path else "GET"
            said = {}
            for key in ("plain", "nobody"):
                connection = http.client.HTTPConnection(stack.url.removeprefix("http://"), timeout=20)
                with closing(connection):
                    connection.request(method, f"{path}?model=echo", None, {**ACTION, "Authorization": f"Bearer {key}"})
                    said[key] = connection.getresponse().status
            assert said == {"plain": 403, "nobody": 401}, path
