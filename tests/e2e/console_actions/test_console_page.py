"""What docs/console.md and docs/operating.md say of the console's actions is run as it stands there."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from starlette.routing import Route

from tests.children import ROOT
from tests.e2e.console_actions.desk import Desk

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
