"""50 models, 200 workers, 64 lanes and 100,000 dead letters: everything is there, and stays quick."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.console_page.conftest import Opened
from tests.e2e.console_page.recorded import Recorded, serving

LARGE = Recorded(models=50, workers=200, lanes=64, letters=100_000, tick_s=0.5)


@pytest.fixture(scope="module")
def large() -> Iterator[str]:
    with serving(LARGE) as address:
        yield f"{address}/console"


def rows(page: Page, table: str) -> int:
    return page.get_by_role("table", name=table).locator("tbody tr").count()


def test_tables_show_a_page_of_many_and_find_one(open_page: Opened, large: str) -> None:
    page = open_page(large)
    expect(page.get_by_role("heading", name="Workers · 200")).to_be_visible()
    expect(page.get_by_role("heading", name="Lanes · 64")).to_be_visible()
    assert (rows(page, "Workers"), rows(page, "Lanes")) == (20, 16)
    expect(page.get_by_text("1 to 20 of 200")).to_be_visible()
    page.get_by_role("searchbox", name="Filter workers").fill("worker-177")
    expect(page.get_by_role("table", name="Workers").locator("tbody tr")).to_have_count(1)
    page.get_by_role("searchbox", name="Filter workers").fill("")
    page.get_by_role("table", name="Workers").get_by_role("button", name="Worker").click()
    page.get_by_role("table", name="Workers").get_by_role("button", name="Worker").click()
    expect(page.get_by_role("table", name="Workers").locator("tbody tr").first).to_contain_text("worker-199")
    for _ in range(9):
        page.get_by_role("button", name="Next").last.click()
    expect(page.get_by_text("181 to 200 of 200")).to_be_visible()
    expect(page.get_by_role("button", name="Next").last).to_be_disabled()


def test_one_of_fifty_models_is_found_by_a_part_of_its_name(open_page: Opened, large: str) -> None:
    page = open_page(large)
    page.get_by_role("searchbox", name="Filter models").fill("el-37")
    expect(page.locator(".rail li")).to_have_count(1)
    page.get_by_role("link", name="model-37").click()
    expect(page.locator("#view .title")).to_contain_text("model-37")


def test_letters_beyond_the_first_are_loaded_when_wanted(open_page: Opened, large: str) -> None:
    page = open_page(f"{large}#/dead")
    expect(page.get_by_role("heading", name="Dead letters · 100,000")).to_be_visible()
    page.get_by_role("button", name="Load more").click()
    expect(page.get_by_text("1 to 50 of 200")).to_be_visible()
    page.get_by_label("Select all that are shown").check()
    expect(page.get_by_text("200 selected")).to_be_visible()
    expect(page.get_by_role("button", name="Select all 100,000 that match")).to_be_visible()


def test_a_narrow_telephone_never_scrolls_sideways(open_page: Opened, large: str) -> None:
    page = open_page(large, narrow=True)
    for view in ("overview", "try", "requests?id=x", "dead", "jobs"):
        page.evaluate("(view) => { location.hash = `#/${view}`; }", view)
        expect(page.locator(".view-body .panel").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
