"""What the console's page costs: `python -m tests.perf.console_page`, with a Chromium.

First paint, bytes, the share of a core that the page's renderer takes while it is open and shown, and how long the page
takes from a key or a click to what follows from it, with 50 models, 200 workers, 64 lanes and 100,000 dead letters.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, CDPSession, Page, expect, sync_playwright

from tests.e2e.console_page.conftest import WIDE, chromium
from tests.e2e.console_page.recorded import Recorded, serving

OPENED = 5
SECONDS = 30
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
BYTES = """performance.getEntriesByType('resource').filter((one) => one.name.includes('/js/')).map((one) =>
    [one.decodedBodySize, one.transferSize])"""
# From the event to the frame after it: the work of the page, and its layout and paint.
TAKEN = """([selector, act]) => new Promise((resolve) => {
    const node = document.querySelector(selector);
    const begin = performance.now();
    if (act === 'click') node.click();
    else {
        node.value = act;
        node.dispatchEvent(new Event('input'));
    }
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - begin)));
})"""
ACTIONS = {
    "filter 200 workers": (".panel:nth-of-type(3) input[type=search]", "worker-17"),
    "sort 200 workers": (".panel:nth-of-type(3) th:nth-child(6) button", "click"),
    "filter 50 models": (".rail input", "el-3"),
    "to the next page of lanes": (".panel:nth-of-type(2) .foot button:last-child", "click"),
    "to dead letters": (".tabs a:nth-child(4)", "click"),
    "select all that are shown": ("thead input", "click"),
    "back to the overview": (".tabs a:nth-child(1)", "click"),
}


def processor_s(session: CDPSession, kind: str) -> float:
    """Return the processor's seconds of Chromium's processes of a kind."""
    found = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(float(one["cpuTime"]) for one in found if one["type"] == kind)


def own_s() -> float:
    """Return this process's seconds: it is the server, whose documents are made up."""
    return sum(os.times()[:2])


def opened(browser: Browser, url: str) -> Page:
    page = browser.new_context(viewport=WIDE).new_page()  # type: ignore[arg-type]
    page.goto(url)
    expect(page.locator("#link-text")).to_have_text("Live")
    return page


def measured(browser: Browser, url: str, seconds: int) -> dict[str, Any]:
    paints = []
    for _ in range(OPENED):
        page = opened(browser, url)
        paints.append(page.evaluate(PAINT))
        sizes = page.evaluate(BYTES)
        page.context.close()
    page = opened(browser, url)
    page.wait_for_timeout(3000)  # what opening takes is no part of being open
    session = browser.new_browser_cdp_session()
    before = {kind: processor_s(session, kind) for kind in ("renderer", "GPU", "browser")}
    page.wait_for_timeout(seconds * 1000)
    shares = {kind: round((processor_s(session, kind) - began) / seconds, 4) for kind, began in before.items()}
    taken = {name: round(page.evaluate(TAKEN, [*how]), 1) for name, how in ACTIONS.items()}
    page.context.close()
    return {
        "first contentful paint, ms": [round(one) for one in sorted(paints)],
        "median, ms": round(statistics.median(paints)),
        "script, bytes": sum(one for one, _ in sizes),
        "script as sent, bytes": sum(one for _, one in sizes),
        f"share of a core over {seconds} s": shares,
        "from an action to the next frame, ms": taken,
    }


def main() -> None:
    """Print it as JSON."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with sync_playwright() as playwright:
        path = chromium() or playwright.chromium.executable_path
        assert Path(path).exists(), "There is no Chromium here."
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=options)
        found = {}
        for name, recorded in {
            "3 models, 2 workers": Recorded(),
            "50 models, 200 workers, 64 lanes, 100,000 dead letters": Recorded(50, 200, 64, 100_000),
        }.items():
            with serving(recorded) as address:
                found[name] = measured(browser, f"{address}/console", seconds)
        browser.close()
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
