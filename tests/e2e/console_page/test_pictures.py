"""Pictures of the console for the documentation: `HEADRACE_PICTURES=docs/img python -m pytest -m soak -k pictures`.

Their figures are made up. Without the variable they are made and thrown away.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.children import ROOT
from tests.e2e.console_page.conftest import Opened
from tests.e2e.console_page.recorded import Recorded

pytestmark = pytest.mark.soak

COLOURS = 256
MOST_BYTES = 150_000
PHOTO = ROOT / "examples" / "photos" / "cat.jpg"


@pytest.fixture
def recorded() -> Recorded:
    return Recorded(workers=3, letters=2400)


def keep(page: Page, name: str, folder: Path) -> None:
    """Save what is seen, with few colours, which makes it small."""
    page.evaluate("document.fonts.ready")
    page.wait_for_timeout(300)  # transitions
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    folder = ROOT / os.environ["HEADRACE_PICTURES"] if "HEADRACE_PICTURES" in os.environ else folder
    path = folder / f"console-{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    assert len(picture.getcolors(1 << 24) or ()) > COLOURS, "nothing is drawn"
    assert path.stat().st_size < MOST_BYTES


def drawn(page: Page) -> None:
    expect(page.get_by_role("img", name=re.compile("last 15 min: .*now .*between"))).to_have_count(6)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_pictures_of_the_overview(open_page: Opened, url: str, tmp_path: Path, dark: bool, narrow: bool) -> None:
    page = open_page(url, dark=dark, narrow=narrow)
    page.set_viewport_size({"width": 360, "height": 1180} if narrow else {"width": 1440, "height": 1130})
    drawn(page)
    keep(page, f"{'narrow' if narrow else 'wide'}-{'dark' if dark else 'light'}", tmp_path)


def test_pictures_of_a_photo_that_was_sent(open_page: Opened, url: str, tmp_path: Path) -> None:
    page = open_page(f"{url}#/try")
    page.set_viewport_size({"width": 1440, "height": 880})
    page.get_by_label("File to send").set_input_files(PHOTO)
    expect(page.get_by_role("heading", name="18.6 ms, and where it went")).to_be_visible()
    keep(page, "try", tmp_path)


def test_pictures_of_dead_letters(open_page: Opened, url: str, tmp_path: Path) -> None:
    page = open_page(f"{url}#/dead", dark=True)
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Select all 2,400 that match").click()
    page.get_by_role("button", name="Drop").click()
    keep(page, "dead", tmp_path)


def test_pictures_of_what_is_wrong(open_page: Opened, url: str, tmp_path: Path, recorded: Recorded) -> None:
    recorded.health = {
        "level": "bad",
        "reasons": [
            {
                "level": "bad",
                "what": "Model sentiment has no live worker.",
                "do": "Start a consumer: `headrace up --model sentiment`.",
            },
            {
                "level": "warn",
                "what": "Lane nightly of imagenet is 92% full.",
                "do": "Add workers, or raise its limit: `headrace lane set imagenet nightly --limit 40000`.",
            },
        ],
    }
    recorded.changed = {"sentiment": {"state": "away", "ready": False, "workers": 0, "rate": 0.0}}
    page = open_page(url)
    page.set_viewport_size({"width": 1440, "height": 700})
    drawn(page)
    keep(page, "wrong", tmp_path)
