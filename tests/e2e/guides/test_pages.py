"""The commands of the operators' pages run, and the symptoms that they describe are what one sees."""

from __future__ import annotations

import re
import shlex

import pytest

from loadgen.__main__ import cli
from shared import keys
from shared.redis.client import connect
from shared.wire.messages import Request, encode_request
from shared.wire.outcomes import ALL
from tests.children import ROOT
from tests.e2e.examples import examples_of
from tests.e2e.guides.conftest import BROKEN, MODEL, Site
from tests.e2e.stack import Response, call
from tests.helpers import eventually

PAGES = ("redis", "sizing", "troubleshooting", "upgrading")
COMMANDS = sorted({line for page in PAGES for line in examples_of(f"docs/{page}.md")})
TROUBLE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")


def code_of(answer: Response) -> tuple[int, str]:
    return answer.status, answer.body["error"]["code"]


@pytest.mark.parametrize("line", COMMANDS, ids=range(len(COMMANDS)))
def test_command(site: Site, line: str) -> None:
    done = site.run(line)
    assert done.code == 0, done.out + done.err
    assert done.out or "requeue" in line or "drop" in line
    assert '"error"' not in done.out


def test_the_load_generator_takes_what_the_pages_give_it() -> None:
    prefix = "headrace loadgen run "
    lines = [
        line for line in (ROOT / "docs/sizing.md").read_text(encoding="utf-8").splitlines() if line.startswith(prefix)
    ]
    assert len(lines) == 2
    for line in lines:
        context = cli.commands["run"].make_context("run", shlex.split(line.removeprefix(prefix)))
        assert context.params["model"] == MODEL


def test_each_page_has_commands() -> None:
    for page in PAGES:
        assert examples_of(f"docs/{page}.md"), page


def test_every_refusal_that_passes_is_on_the_page() -> None:
    named = set(re.findall(r"`(\w+)`", TROUBLE))
    missing = {one.code for one in ALL if one.status in (429, 503, 504)} - named
    assert missing == set(), "docs/troubleshooting.md lists all of 429, 503 and 504"


def test_a_full_lane_is_429_and_the_command_shows_it(site: Site) -> None:
    def state() -> dict[str, int]:
        [lane] = site.run(f"headrace lane list {MODEL} --json").json["lanes"]
        return {"limit": lane["limit"], "depth": lane["depth"]}

    assert site.run(f"headrace lane limit {MODEL} default 1").code == 0
    assert site.run(f"headrace pause {MODEL}").code == 0
    try:
        with connect(site.redis) as client:
            message = encode_request(Request("waits", 60_000, "application/octet-stream", b"x"))
            client.xadd(keys.work(MODEL, "default"), {keys.MESSAGE_FIELD: message})
        refused = site.stack.predict(MODEL, b"x")
        assert code_of(refused) == (429, "lane_full")
        assert {name.lower(): text for name, text in refused.headers.items()}["retry-after"].isdecimal()
        assert state() == {"limit": 1, "depth": 1}
        shown = site.run("headrace status").out
        assert "paused" in shown
    finally:
        assert site.run(f"headrace resume {MODEL}").code == 0
        assert site.run(f"headrace lane limit {MODEL} default 4096").code == 0
    eventually(lambda: site.stack.predict(MODEL, b"x").status == 200)


def test_what_expires_while_a_model_is_paused_is_504_and_did_not_run(site: Site) -> None:
    assert site.run(f"headrace pause {MODEL}").code == 0
    try:
        late = site.stack.predict(MODEL, b"x", query="?timeout_ms=300")
        assert late.status == 504 and late.body["error"]["code"] in TROUBLE
    finally:
        assert site.run(f"headrace resume {MODEL}").code == 0


def test_a_drained_model_is_503_until_it_is_resumed(site: Site) -> None:
    assert site.run(f"headrace drain {MODEL}").code == 0
    assert code_of(site.stack.predict(MODEL, b"x")) == (503, "draining")
    assert site.run(f"headrace resume {MODEL}").code == 0
    eventually(lambda: site.stack.predict(MODEL, b"x").status == 200)


def test_without_a_replica_that_is_required_requests_are_refused_and_come_back(site: Site) -> None:
    with connect(site.redis) as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            assert site.stack.predict(MODEL, b"x").status == 503
        finally:
            client.config_set("min-replicas-to-write", 0)
    eventually(lambda: site.stack.predict(MODEL, b"x").status == 200)


def test_a_dead_letter_is_listed_and_dropped(site: Site) -> None:
    letters = keys.dead_letters(MODEL, "default")
    with connect(site.redis) as client:
        client.xadd(keys.work(MODEL, "default"), {keys.MESSAGE_FIELD: b"no request"})
        eventually(lambda: client.xlen(letters) == 1)
        [letter] = site.run(f"headrace dlq list {MODEL} --json").json["letters"]
        assert letter["reason"]
        assert site.run(f"headrace dlq drop {MODEL} --all --yes").code == 0
        assert client.xlen(letters) == 0


def test_a_model_that_cannot_be_loaded_ends_with_69_and_status_says_why(site: Site) -> None:
    process = site.stack.begin_consumer(BROKEN)
    process.until(f"Model {BROKEN} cannot be loaded: ")
    assert process.popen.wait(timeout=40) == 69
    assert f"{BROKEN} cannot be loaded" in site.run("headrace status").out


def test_a_stream_asks_proxies_to_pass_events_on(site: Site) -> None:
    body = '{"model": "smollm2", "prompt": "a", "max_tokens": 2, "stream": true}'
    done = site.run(f"curl -i -N http://127.0.0.1:8000/v1/completions -d '{body}'")
    assert "x-accel-buffering: no" in done.out.lower() and "data: [DONE]" in done.out


def test_the_card_has_what_sizing_reckons_with(site: Site) -> None:
    batch = call(f"{site.stack.url}/v1/models/{MODEL}").body["batch"]
    assert {"preferred", "fixed_ms", "per_row_ms"} <= set(batch)
