"""Names with markup in every field, and ways in which a browser could be made to run something."""

from __future__ import annotations

import re
from functools import partial

from playwright.sync_api import Page, expect

from tests.e2e.console_page.conftest import Opened
from tests.e2e.console_page.documents import HOSTILE
from tests.e2e.console_page.recorded import Recorded
from tests.helpers import eventually

RAN = "window.ran ?? null"
ATTEMPTS = {
    "document.body.append(Object.assign(document.createElement('script'), { text: 'window.ran = 1' }))": "trusted",
    "document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click()": "trusted",
    "Function('window.ran = 1')()": "trusted",
    "fetch('http://127.0.0.2:9/')": "connect-src",
    "document.body.append(Object.assign(new Image(), { src: 'http://127.0.0.2:9/x.png' }))": "img-src",
    "trustedTypes.createPolicy('mine', { createHTML: (text) => text })": "trusted-types",
    "document.body.innerHTML = '<img src=x onerror=window.ran=1>'": "trusted",
}
"""What a script might do, and the directive that forbids it."""


def has_forbidden(page: Page, directive: str) -> bool:
    return any(directive in one for one in page.evaluate("window.violations"))


def test_markup_in_every_field_is_shown_and_nothing_runs(open_page: Opened, url: str, recorded: Recorded) -> None:
    """At the end ``open_page`` also holds that the policy had nothing to forbid."""
    recorded.text = HOSTILE
    recorded.lanes, recorded.workers = 12, 12
    page = open_page(url)
    expect(page.locator("#health")).to_contain_text("<script>window.ran=1</script>")
    expect(page.locator(".rail a").first).to_contain_text("<img src=x onerror=")
    expect(page.locator("#view .title")).to_contain_text("<img src=x onerror=")
    expect(page.get_by_role("table", name="Workers")).to_contain_text("<img src=x onerror=")
    for view in ("requests?id=x", "dead", "jobs", "try"):
        page.evaluate("(view) => { location.hash = `#/${view}`; }", view)
        expect(page.locator(".view-body .panel").first).to_be_visible()
        if view == "try":
            page.get_by_label("File to send").set_input_files({"name": HOSTILE, "mimeType": "a/b", "buffer": b"x"})
            page.get_by_role("button", name="Send", exact=True).click()
            expect(page.get_by_role("heading", name=re.compile("and where it went"))).to_be_visible()
        expect(page.locator(".view-body")).to_contain_text("<img src=x onerror=")
        assert page.locator("#view img[onerror], #view script, .rail img, #health img, #health script").count() == 0
        assert page.evaluate(RAN) is None


def test_markup_in_a_dialog_is_shown_and_nothing_runs(open_page: Opened, url: str, recorded: Recorded) -> None:
    recorded.text = HOSTILE
    page = open_page(f"{url}#/jobs")
    page.get_by_role("button", name=re.compile("Cancel the job")).first.click()
    expect(page.get_by_role("dialog")).to_contain_text("<script>window.ran=1</script>")
    assert page.get_by_role("dialog").locator("img, script").count() == 0
    assert page.evaluate(RAN) is None


def test_an_address_with_markup_is_a_model_that_nobody_knows(open_page: Opened, url: str) -> None:
    page = open_page(f"{url}#/__proto__?model=%3Cimg%20src%3Dx%20onerror%3D%22window.ran%3D1%22%3E&__proto__=1")
    expect(page.locator("#view .title")).to_contain_text('<img src=x onerror="window.ran=1">')
    expect(page.get_by_text("Nothing is known of this model.")).to_be_visible()
    assert page.evaluate(RAN) is None


def test_the_policy_forbids_what_the_page_does_not_do(open_page: Opened, url: str) -> None:
    """Even if a mistake in the page gave a text the chance."""
    page = open_page(url, tolerant=True)
    expect(page.locator("#link-text")).to_have_text("Live")
    assert page.evaluate("window.violations") == []
    for attempt, directive in ATTEMPTS.items():
        page.evaluate("violations.length = 0")
        page.evaluate(f"setTimeout(() => {{ {attempt} }})")  # as a script of the page, not as one of the debugger
        assert eventually(partial(has_forbidden, page, directive)), attempt
        assert page.evaluate(RAN) is None, attempt
