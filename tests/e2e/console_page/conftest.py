"""A real Chromium, and pages in it that report whatever goes wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.e2e.console_page.recorded import Recorded, serving

NAMES = ("chromium", "chromium-browser", "google-chrome")
WATCH = """
window.violations = [];
addEventListener('securitypolicyviolation', (one) => violations.push(`${one.violatedDirective} ${one.blockedURI}`));
"""
WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 360, "height": 740}
Opened = Callable[..., Page]


def chromium() -> str | None:
    """Return the path of the system's Chromium; None for the one that Playwright installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one module: while Playwright runs, its thread can run no other event loop."""
    with sync_playwright() as playwright:
        path = chromium()
        if path is None and not Path(playwright.chromium.executable_path).exists():
            assert "CI" not in os.environ, "CI has to install Chromium; see .ci/run."
            pytest.skip("no Chromium here; apt install chromium, or .venv/bin/playwright install chromium")
        options = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own refuses to run as root
        started = playwright.chromium.launch(executable_path=path, args=options)
        yield started
        started.close()


class Watched:
    """A page, and what was reported of it."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.add_init_script(WATCH)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Opened]:
    """Open pages; at the end none but the ``tolerant`` may have reported an error or a violation of the policy."""
    with ExitStack() as stack:
        opened: list[Watched] = []

        def make(
            url: str, *, tolerant: bool = False, dark: bool = False, narrow: bool = False, **options: object
        ) -> Page:
            viewport = NARROW if narrow else WIDE
            scheme = "dark" if dark else "light"
            context = browser.new_context(viewport=viewport, color_scheme=scheme, **options)  # type: ignore[arg-type]
            stack.callback(context.close)
            context.set_default_timeout(15_000)
            watched = Watched(context)
            if not tolerant:
                opened.append(watched)
            watched.page.goto(url)
            return watched.page

        yield make
        for one in opened:
            assert one.problems == []
            assert one.page.evaluate("window.violations") == []


@pytest.fixture
def recorded() -> Recorded:
    """What the made-up server answers; a test changes it as it likes."""
    return Recorded(tick_s=0.2)


@pytest.fixture
def url(recorded: Recorded) -> Iterator[str]:
    """The address of that server's console."""
    with serving(recorded) as address:
        yield f"{address}/console"
