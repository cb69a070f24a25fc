"""The console on a running stack: consumers, a front end, Redis, and nothing made up."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from shared import keys
from shared.api_keys import digest_of
from shared.redis.client import connect
from tests.children import ROOT
from tests.e2e.console_actions.desk import letter
from tests.e2e.console_page.conftest import Opened
from tests.e2e.stack import Stack, call
from tests.helpers import eventually

pytestmark = pytest.mark.timeout(60)

PHOTO = ROOT / "examples" / "photos" / "cat.jpg"
LETTERS = 130
PAUSE = """async ([key, model]) => (await fetch('console/lanes/pause', {
    method: 'POST',
    body: JSON.stringify({ model, lane: 'default', paused: true }),
    headers: { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json', 'Headrace-Console': '1' },
})).status"""
READER, OPERATOR = "hr_reader", "hr_operator"


@pytest.fixture(scope="module")
def models() -> tuple[str, str]:
    """Names of a model of pictures and of one that echoes."""
    return f"colours-{secrets.token_hex(5)}", f"echo-{secrets.token_hex(5)}"


@pytest.fixture(scope="module")
def stack(valkey_url: str, tmp_path_factory: pytest.TempPathFactory, models: tuple[str, str]) -> Iterator[Stack]:
    colours, echo = models
    folder = tmp_path_factory.mktemp("console")
    table = folder / "models.toml"
    table.write_text(
        f'[models.{colours}]\nfamily = "python"\nentry = "tests.e2e.console_page.colours:Colours"\nversion = "3"\n'
        f'[models.{echo}]\nfamily = "echo"\n'
    )
    with Stack(valkey_url, table, RESULTS=str(folder / "results")) as running:
        running.begin_consumer(colours)
        running.begin_consumer(echo)
        running.start_front_end()
        running.wait(colours)
        running.wait(echo)
        yield running


def shown(stack: Stack, open_page: Opened, model: str, view: str, **options: Any) -> Page:
    page = open_page(f"{stack.url}/console#/{view}?model={model}", **options)
    expect(page.get_by_role("heading", name=model, exact=True)).to_be_visible()
    return page


def test_a_photo_is_answered_and_its_request_found(stack: Stack, open_page: Opened, models: tuple[str, str]) -> None:
    page = shown(stack, open_page, models[0], "try")
    page.get_by_label("File to send").set_input_files(PHOTO)
    expect(page.locator(".guesses")).to_contain_text(re.compile("red.*green|green.*red", re.DOTALL))
    expect(page.get_by_role("table", name=re.compile("Where .* went"))).to_contain_text(re.compile("Run.*ms"))
    expect(page.locator(".facts")).to_contain_text(re.compile("Worker.*Batch1 row.*Attempt1"))
    request_id = page.locator(".facts a").inner_text()

    def is_found() -> bool:
        page.locator("#find-id").fill(request_id)
        page.locator("#find-id").press("Enter")
        page.evaluate("dispatchEvent(new Event('hashchange'))")
        page.wait_for_selector(".story, .notice.bad")
        return page.locator(".story").count() == 1

    eventually(is_found, limit_s=20)
    expect(page.get_by_role("heading", name=re.compile(f"ms in {models[0]}"))).to_be_visible()
    story = page.locator(".story")
    for part in ("Admission", "Run", "default", "Batch", "Front end"):  # a part of no time is left out
        expect(story).to_contain_text(part)


def test_what_is_no_id_is_refused_in_the_servers_words(
    stack: Stack, open_page: Opened, models: tuple[str, str]
) -> None:
    page = shown(stack, open_page, models[0], "overview", tolerant=True)
    page.locator("#find-id").fill("no such/id ü")
    page.locator("#find-id").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("id")


def test_a_model_that_nobody_serves_is_named_and_the_others_are_shown(
    stack: Stack, open_page: Opened, models: tuple[str, str]
) -> None:
    page = open_page(f"{stack.url}/console#/overview?model=nobody", tolerant=True)  # Chromium reports the 404
    expect(page.get_by_text("Nothing is known of this model.")).to_be_visible()
    page.get_by_role("link", name=models[1]).click()
    expect(page.get_by_role("heading", name="Workers · 1")).to_be_visible()


def test_the_overview_shows_what_happens(stack: Stack, open_page: Opened, models: tuple[str, str]) -> None:
    page = shown(stack, open_page, models[1], "overview")
    for _ in range(20):
        assert stack.predict(models[1], b"hello").status == 200
    expect(page.locator(".figures > div").first).to_contain_text(re.compile(r"Answered[\d.]*[1-9]/s"), timeout=15_000)
    expect(page.get_by_role("table", name="Workers").locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("table", name="Workers")).to_contain_text("serving")
    expect(page.get_by_role("table", name="Lanes")).to_contain_text("default")
    expect(page.get_by_role("img", name=re.compile("^Requests, last 15 min: answered now .* between"))).to_be_visible(
        timeout=20_000
    )
    page.get_by_role("radio", name="1 h").check()
    expect(page.get_by_role("img", name=re.compile("^Requests, last 1 h:"))).to_be_visible()
    expect(page.get_by_text("The past cannot be shown")).to_have_count(0)


def test_a_lane_is_paused_and_goes_on(stack: Stack, open_page: Opened, models: tuple[str, str]) -> None:
    page = shown(stack, open_page, models[1], "overview")
    page.get_by_role("button", name="Pause the lane default").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    expect(page.get_by_text("The lane default is paused.")).to_be_visible()
    page.get_by_role("button", name="Resume the lane default").click(timeout=15_000)
    expect(page.get_by_text("The lane default goes on.")).to_be_visible()
    assert eventually(lambda: stack.predict(models[1], b"x").status == 200, limit_s=15)


def test_dead_letters_that_match_are_dropped_and_the_others_run_again(
    stack: Stack, open_page: Opened, models: tuple[str, str], valkey_url: str
) -> None:
    """One of them has a reason with markup."""
    place = keys.dead_letters(models[1], "default")
    kind = "application/octet-stream"
    with connect(valkey_url) as redis:
        for number in range(LETTERS):
            why = "crashed" if number % 2 else "<b>odd</b>"
            redis.xadd(place, letter(f"c{number}-{secrets.token_hex(4)}", reason=why, content_type=kind))
        redis.expire(place, 600)
    page = shown(stack, open_page, models[1], "dead")
    expect(page.get_by_role("heading", name=f"Dead letters · {LETTERS}")).to_be_visible()
    page.get_by_role("searchbox", name="Filter dead letters").fill("<b>odd")
    expect(page.get_by_text("1 to 50 of 65")).to_be_visible()
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Drop").click()
    page.get_by_label("Type 65 to go on").fill("65")
    page.get_by_role("button", name="Drop 65").click()
    expect(page.get_by_role("dialog")).to_contain_text("Done: 65.")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("searchbox", name="Filter dead letters").fill("")
    expect(page.get_by_role("heading", name="Dead letters · 65")).to_be_visible()
    expect(page.get_by_text("1 to 50 of 65")).to_be_visible()
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Requeue").click()
    page.get_by_role("button", name="Requeue 65").click()
    expect(page.get_by_role("dialog")).to_contain_text("Done: 65.", timeout=15_000)
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_text("No dead letters.")).to_be_visible()
    with connect(valkey_url) as redis:
        assert redis.xlen(place) == 0


def test_a_bulk_batch_is_a_job(stack: Stack, open_page: Opened, models: tuple[str, str]) -> None:
    item = '{"inputs": [{"name": "input", "shape": [1, 1], "datatype": "UINT8", "data": [9]}]}\n'
    lines = (item * 5).encode()
    accepted = call(f"{stack.url}/v1/models/{models[1]}/batches", lines, "application/jsonl")
    assert accepted.status in (200, 201, 202), accepted.body
    page = shown(stack, open_page, models[1], "jobs")
    row = page.get_by_role("row").filter(has_text=accepted.body["id"])
    expect(row).to_contain_text("completed", timeout=20_000)
    expect(row).to_contain_text("5 of 5")


def test_a_key_that_may_read_gets_a_page_without_actions_and_a_server_that_refuses_them(
    stack: Stack, open_page: Opened, models: tuple[str, str], tmp_path: Path, valkey_url: str
) -> None:
    table = tmp_path / "keys.toml"
    table.write_text(
        "".join(
            f'[keys.{name}]\nsha256 = "{digest_of(key.encode()).hex()}"\nconsole = "{role}"\n'
            for name, key, role in (("rita", READER, "read"), ("olga", OPERATOR, "operate"))
        )
    )
    with Stack(valkey_url, tmp_path / "none.toml", KEYS_FILE=str(table)) as guarded:
        guarded.start_front_end()
        page = open_page(f"{guarded.url}/console#/overview?model={models[1]}", tolerant=True)
        page.get_by_role("textbox", name="API key").fill(READER)
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_text(re.compile("You may look, and change nothing. Your API key"))).to_be_visible()
        expect(page.get_by_role("heading", name=re.compile("Lanes · "))).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("Pause"))).to_have_count(0)
        status = page.evaluate(PAUSE, [READER, models[1]])
        assert status == 403
        page.get_by_role("button", name="Forget the key").click()
        page.get_by_role("textbox", name="API key").fill(OPERATOR)
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("button", name="Pause the lane default")).to_be_visible()
