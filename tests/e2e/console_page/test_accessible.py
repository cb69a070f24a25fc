"""Keyboard, names, landmarks, contrast: axe-core's rules, and ways with the keyboard alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.console_page.conftest import Opened
from tests.e2e.console_page.recorded import Recorded

AXE = Path(__file__).with_name("vendor") / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
FOCUSED = """(() => {
    const node = document.activeElement;
    const has_ring = node.matches('body, [type=radio]') || getComputedStyle(node).outlineStyle !== 'none';
    return [node.ariaLabel ?? node.textContent.trim(), has_ring];
})()"""
"""Of what has the focus: its name, and whether that is seen; the ring of a radio button is around its label."""
VIEWS = ("overview", "try", "requests?id=x", "dead", "jobs")


def faults(page: Page, *rules: str) -> list[str]:
    """Return what axe-core finds: the rule, and the elements that break it.

    Args:
        rules: only these; all that are known of if there are none.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    options = {"runOnly": {"type": "rule", "values": rules} if rules else {"type": "tag", "values": RULES}}
    found = page.evaluate("(options) => axe.run(document, options)", options)
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}" for one in found["violations"]]


@pytest.mark.soak  # seconds for each view; dialogs and a narrow screen are below
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_rule_of_axe_is_broken(open_page: Opened, url: str, recorded: Recorded, dark: bool) -> None:
    reason = {"level": "warn", "what": "Lane nightly is nearly full.", "do": "Add a worker."}
    recorded.health = {"level": "warn", "reasons": [reason]}
    recorded.role, recorded.why = "operate", ""
    page = open_page(url, dark=dark)
    for view in VIEWS:
        page.evaluate("(view) => { location.hash = `#/${view}`; }", view)
        expect(page.locator(".view-body .panel").first).to_be_visible()
        assert faults(page, *(["color-contrast"] if dark else [])) == [], view


def test_no_rule_of_axe_is_broken_by_dialogs_and_on_a_telephone(open_page: Opened, url: str) -> None:
    page = open_page(f"{url}#/dead", narrow=True)
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Drop").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert faults(page) == []


def test_everything_is_reached_with_the_keyboard(open_page: Opened, url: str) -> None:
    page = open_page(url)
    expect(page.get_by_role("button", name="Pause the lane default")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    seen = set()
    for _ in range(45):
        page.keyboard.press("Tab")
        name, has_ring = page.evaluate(FOCUSED)
        assert has_ring, name
        seen.add(name)
    assert {"Try it", "Jobs", "Pause the lane default", "Pause the lane nightly", "Worker", "Busy"} <= seen


def test_a_dialog_keeps_the_focus_and_gives_it_back(open_page: Opened, url: str) -> None:
    page = open_page(url)
    pause = page.get_by_role("button", name="Pause the lane default")
    pause.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Pause the lane default?")).to_be_visible()
    for _ in range(5):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.matches('body, dialog *')")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(pause).to_be_focused()


def test_only_the_sentence_about_health_is_read_out(open_page: Opened, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#link-text")).to_have_text("Live")
    polite = page.locator("[aria-live], [role=status]")
    said = [text for text in polite.all_inner_texts() if text.strip()]
    assert [text for text in said if " to " not in text] == ["Your queue is healthy."]


def test_a_switch_overrides_the_systems_colours_and_is_remembered(open_page: Opened, url: str) -> None:
    page = open_page(url, dark=True)
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(14, 17, 19)"
    page.get_by_role("button", name="Theme: auto. Switch to light.").click()
    assert page.evaluate(ground) == "rgb(246, 247, 246)"
    page.reload()
    assert page.evaluate(ground) == "rgb(246, 247, 246)"
    page.get_by_role("button", name="Theme: light. Switch to dark.").click()
    assert page.evaluate(ground) == "rgb(14, 17, 19)"


def test_nothing_moves_for_those_who_asked_for_that(open_page: Opened, url: str) -> None:
    page = open_page(url, reduced_motion="reduce")
    durations = "[...document.querySelectorAll('*')].map((node) => getComputedStyle(node).transitionDuration)"
    assert set(page.evaluate(durations)) == {"0s"}
