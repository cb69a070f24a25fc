"""A server that goes away and comes back, and a clock that is set."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.console_page.conftest import Opened
from tests.e2e.console_page.recorded import Recorded, serving

HISTORY = """async (script) => {
    const { History, KEYS } = await import(script);
    const history = new History();
    const value = (key) => (key === 'rate' ? 1 : undefined);
    const taken = [100, 102, 102, 101, 104, 50, 105, 400, 401].map((at_s) => history.add(at_s, value, 2, 20));
    const now = [...history.columns.at];
    history.replace({ step_s: 10, at_s: [90, 100, 95, 100, null, 300], rate: [1, 2, 3, 4, 5, 6] });
    const rows = KEYS.every((key) => history.columns[key].length === history.columns.at.length);
    return { taken, now, later: history.columns.at, rate: history.columns.rate, p99: history.columns.p99_ms, rows };
}"""


def test_a_server_that_goes_away_is_named_and_greyed_and_comes_back(open_page: Opened) -> None:
    recorded = Recorded(tick_s=0.2)
    with serving(recorded) as address:
        page = open_page(f"{address}/console", tolerant=True)  # Chromium reports each refused connection
        expect(page.locator("#link-text")).to_have_text("Live")
        expect(page.locator(".figures")).to_contain_text("dead letters")  # the last figure is there
        before = page.locator(".figures").inner_text()
    expect(page.locator("#link-text")).to_have_text(re.compile(r"Away for \d+ s"))
    expect(page.locator("#health")).to_contain_text("The server does not answer. The figures are from")
    expect(page.locator("body")).to_have_class("stale")
    assert "p99 latency" in before
    assert page.locator(".figures").inner_text().count("\n") == before.count("\n")
    with serving(recorded, int(address.rpartition(":")[2])):
        expect(page.locator("#link-text")).to_have_text("Live", timeout=20_000)
        expect(page.locator("#health")).to_contain_text("Your queue is healthy.")
        expect(page.locator("body")).not_to_have_class("stale")


def test_a_page_that_opens_while_the_server_refuses_begins_once_it_answers(
    open_page: Opened, url: str, recorded: Recorded
) -> None:
    recorded.is_broken = True
    page = open_page(url, tolerant=True)
    expect(page.locator("#health")).to_contain_text("The server answered 503.")
    recorded.is_broken = False
    expect(page.locator("#health")).to_contain_text("Your queue is healthy.", timeout=20_000)


def test_rights_that_changed_meanwhile_hold_once_it_is_back(open_page: Opened) -> None:
    recorded = Recorded(tick_s=0.2)
    with serving(recorded) as address:
        page = open_page(f"{address}/console", tolerant=True)
        expect(page.get_by_role("button", name="Pause the lane default")).to_be_visible()
    expect(page.locator("#link-text")).to_have_text(re.compile("Away"))
    recorded.role, recorded.why = "read", "Now you may only look."
    with serving(recorded, int(address.rpartition(":")[2])):
        expect(page.get_by_text("Now you may only look.")).to_be_visible(timeout=20_000)
        expect(page.get_by_role("button", name="Pause the lane default")).to_be_hidden()


def test_charts_use_the_servers_clock_and_never_run_backwards(open_page: Opened, url: str, recorded: Recorded) -> None:
    page = open_page(url)
    expect(page.get_by_role("img", name=re.compile("last 15 min: .*now"))).to_have_count(6)
    recorded.clock_ms = -3_600_000
    expect(
        page.get_by_text(re.compile(r"The server's clock was set back to [\d:]{8}; the charts begin there\."))
    ).to_be_visible()
    recorded.clock_ms = 7_200_000
    expect(page.get_by_role("img", name=re.compile("last 15 min: .*now"))).to_have_count(6)
    expect(page.locator("#link-text")).to_have_text("Live")


def test_times_only_grow_and_what_is_not_known_is_a_hole(open_page: Opened, url: str) -> None:
    """The columns that the charts draw, with a clock that stands, stutters, goes back and jumps ahead."""
    page = open_page(url)
    script = page.locator('link[rel="modulepreload"][href$="history.js"]').get_attribute("href")
    found = page.evaluate(HISTORY, page.evaluate("(path) => new URL(path, location.href).href", script))
    assert found["taken"] == [True, True, True, True, True, False, True, True, True]
    assert found["now"] == [100, 102, 104, 252, 400]
    assert found["later"] == [90, 100, 200, 300, 400]
    assert found["rate"] == [1, 2, None, 6, 1]
    assert set(found["p99"]) == {None}
    assert found["rows"]
