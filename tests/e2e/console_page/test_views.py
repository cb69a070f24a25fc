"""What a person sees and does on the console, in Chromium, with a server whose figures are made up."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.console_page.conftest import Opened
from tests.e2e.console_page.recorded import Recorded

PIXEL = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")


def heading(page: Page, name: str | re.Pattern[str]) -> None:
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def test_the_overview_says_at_once_whether_the_queue_is_healthy(open_page: Opened, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#health")).to_contain_text("Your queue is healthy.")
    expect(page.locator(".figures")).to_contain_text(
        re.compile(r"Answered\d+/s.*p99 latency[\d.]+ms.*In the queue\d+.*Device busy\d+%")
    )
    heading(page, "Lanes · 2")
    heading(page, "Workers · 2")
    expect(page.get_by_role("table", name="Workers")).to_contain_text("1.9 ms + 0.71 ms a row")
    expect(page.get_by_role("table", name="Workers")).to_contain_text("openvino · bf16")
    charts = page.get_by_role("img", name=re.compile(r"last 15 min: .*now .*between"))
    expect(charts).to_have_count(6)


def test_without_a_choice_the_busiest_model_is_shown(open_page: Opened, url: str, recorded: Recorded) -> None:
    recorded.changed = {"echo": {"rate": 9000.0}}
    page = open_page(f"{url}#/requests?id=x")
    heading(page, "echo")
    expect(page).to_have_url(re.compile(r"#/requests\?model=echo&id=x$"))


def test_reasons_come_with_what_to_do(open_page: Opened, url: str, recorded: Recorded) -> None:
    reason = {"level": "bad", "what": "No worker serves echo.", "do": "Start one: headrace up --model echo."}
    recorded.health = {"level": "bad", "reasons": [reason]}
    page = open_page(url)
    expect(page.locator("#health")).to_contain_text("Not healthy: one thing to mend.")
    expect(page.get_by_role("listitem").filter(has_text="No worker serves echo.")).to_contain_text("Start one")


def test_a_range_of_the_past_is_loaded_and_the_present_goes_on(open_page: Opened, url: str, recorded: Recorded) -> None:
    page = open_page(url)
    page.get_by_role("radio", name="6 h").check()
    expect(page.get_by_role("img", name=re.compile("last 6 h"))).to_have_count(6)
    assert any("minutes=360" in one for one in recorded.asked)


def test_another_model_is_a_click_away_and_has_an_address(open_page: Opened, url: str) -> None:
    page = open_page(url)
    page.get_by_role("link", name="sentiment").click()
    expect(page).to_have_url(re.compile(r"#/overview\?model=sentiment$"))
    heading(page, "sentiment")
    page.reload()
    heading(page, "sentiment")


def test_a_photo_is_sent_and_its_time_explained(open_page: Opened, url: str) -> None:
    page = open_page(url)
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("File to send").set_input_files({"name": "cat.jpg", "mimeType": "image/jpeg", "buffer": PIXEL})
    expect(page.get_by_text("tabby").first).to_be_visible()
    heading(page, "18.6 ms, and where it went")
    expect(page.get_by_role("table", name="Where 18.6 ms went")).to_contain_text("Run9.6 ms52%")
    page.get_by_role("link", name="9efb23c2469511d300000001").click()
    heading(page, "18.6 ms in imagenet")


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_photo_may_be_pasted_or_dropped(open_page: Opened, url: str, way: str) -> None:
    page = open_page(f"{url}#/try")
    expect(page.get_by_text("Paste a photo, drop one here, or")).to_be_visible()
    page.evaluate(
        """(way) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array([255, 216, 255])], 'a.jpg', { type: 'image/jpeg' }));
            if (way === 'paste') document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }));
            else document.querySelector('.drop').dispatchEvent(new DragEvent('drop', { dataTransfer: data }));
        }""",
        way,
    )
    heading(page, "18.6 ms, and where it went")


def test_any_request_is_found_by_its_id(open_page: Opened, url: str) -> None:
    page = open_page(url)
    expect(page.locator("#link-text")).to_have_text("Live")
    page.keyboard.press("/")
    page.keyboard.type("abc/7?ü")
    page.keyboard.press("Enter")
    heading(page, "18.6 ms in imagenet")
    expect(page.get_by_text("abc/7?ü")).to_be_visible()
    for fact in ("worker-000", "6 rows", "window", "front-0"):
        expect(page.locator(".facts")).to_contain_text(fact)


def test_chosen_dead_letters_are_requeued_after_a_question(open_page: Opened, url: str, recorded: Recorded) -> None:
    page = open_page(f"{url}#/dead")
    heading(page, "Dead letters · 3")
    page.get_by_label("Select 9efb23c2469511d300000001").check()
    page.get_by_role("button", name="Requeue").click()
    dialog = page.get_by_role("dialog", name="Requeue 1 dead letter?")
    expect(dialog).to_contain_text("all lanes of the model imagenet")
    dialog.get_by_role("button", name="Requeue 1").click()
    expect(page.get_by_role("dialog")).to_contain_text("Done: 1.")
    page.get_by_role("button", name="Close").click()
    heading(page, "Dead letters · 2")
    wanted = {"model": "imagenet", "lane": "default", "ids": ["1699999999999-0"]}
    assert recorded.posts == [("/console/dead/requeue", wanted)]


def test_all_that_match_are_dropped_once_their_number_is_typed(open_page: Opened, url: str, recorded: Recorded) -> None:
    recorded.letters = 2400
    page = open_page(f"{url}#/dead")
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Select all 2,400 that match").click()
    expect(page.get_by_text("2,400 selected")).to_be_visible()
    page.get_by_role("button", name="Drop").click()
    yes = page.get_by_role("button", name="Drop 2,400")
    expect(yes).to_be_disabled()
    page.get_by_label("Type 2400 to go on").fill("2401")
    expect(yes).to_be_disabled()
    page.get_by_label("Type 2400 to go on").fill("2,400")
    yes.click()
    expect(page.get_by_role("dialog")).to_contain_text("Done: 2,400.")
    wanted = {"model": "imagenet", "lane": "", "match": "", "all": True, "up_to": "1700000000000-0"}
    assert recorded.posts == [("/console/dead/drop", wanted)]


def test_where_more_may_match_than_was_counted_the_question_says_so(
    open_page: Opened, url: str, recorded: Recorded
) -> None:
    recorded.letters, recorded.is_exact = 60, False
    page = open_page(f"{url}#/dead")
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Select all at least 60 that match").click()
    page.get_by_role("button", name="Drop").click()
    dialog = page.get_by_role("dialog", name="Drop at least 60 dead letters?")
    expect(dialog).to_contain_text("Not all letters were looked at: more may match, and it is done to them, too.")


def test_a_console_that_is_switched_off_says_so(open_page: Opened, url: str, recorded: Recorded) -> None:
    recorded.role, recorded.why = "none", "The console is switched off here: HEADRACE_CONSOLE=off."
    page = open_page(url)
    expect(page.locator("#health")).to_contain_text("The console is not open to you.")
    expect(page.get_by_text(recorded.why)).to_be_visible()


def test_a_long_action_can_be_stopped(open_page: Opened, url: str, recorded: Recorded) -> None:
    recorded.letters, recorded.is_slow = 100_000, True
    page = open_page(f"{url}#/dead")
    page.get_by_label("Select all that are shown").check()
    page.get_by_role("button", name="Select all 100,000 that match").click()
    page.get_by_role("button", name="Requeue").click()
    page.get_by_role("button", name="Requeue 100,000").click()
    expect(page.get_by_role("dialog")).to_contain_text("of 100,000")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("dialog")).to_contain_text(
        re.compile("Stopped after about [\\d,]+; what was done stays done.")
    )
    assert recorded.letters == 100_000


def test_jobs_show_their_progress_and_can_be_cancelled(open_page: Opened, url: str, recorded: Recorded) -> None:
    page = open_page(f"{url}#/jobs")
    row = page.get_by_role("row").filter(has_text="batch_000000000000")
    expect(row).to_contain_text("3,400 of 10,000")
    row.get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_role("dialog")).to_contain_text("6,600 items will not run.")
    page.get_by_role("button", name="Cancel the job").last.click()
    expect(page.get_by_text("is being cancelled")).to_be_visible()
    assert recorded.posts == [
        ("/console/jobs/cancel", {"model": "imagenet", "lane": "nightly", "id": "batch_000000000000"})
    ]


def test_a_lane_is_paused_after_a_question(open_page: Opened, url: str, recorded: Recorded) -> None:
    page = open_page(url)
    page.get_by_role("button", name="Pause the lane nightly").click()
    page.get_by_role("button", name="Pause", exact=True).last.click()
    expect(page.get_by_text("The lane nightly is paused.")).to_be_visible()
    assert recorded.posts == [("/console/lanes/pause", {"model": "imagenet", "lane": "nightly", "paused": True})]


def test_who_may_only_look_finds_no_action_and_the_reason(open_page: Opened, url: str, recorded: Recorded) -> None:
    recorded.role, recorded.why = "read", "Your API key may look at the console and change nothing."
    page = open_page(url)
    expect(page.get_by_text(recorded.why)).to_be_visible()
    heading(page, "Lanes · 2")
    expect(page.get_by_role("button", name=re.compile("Pause"))).to_have_count(0)
    page.get_by_role("link", name=re.compile("Dead letters")).click()
    heading(page, "Dead letters · 3")
    expect(page.get_by_role("button", name=re.compile("Requeue|Drop"))).to_have_count(0)
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_text("3,400 of 10,000")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Cancel"))).to_have_count(0)


def test_a_server_with_keys_asks_for_one_and_keeps_it_in_the_tab_only(
    open_page: Opened, url: str, recorded: Recorded
) -> None:
    recorded.key = "hr_secret"
    page = open_page(url, tolerant=True)  # Chromium reports each 401 as an error
    page.get_by_role("textbox", name="API key").fill("hr_wrong")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("dialog")).to_contain_text("The server does not accept this key.")
    page.get_by_role("textbox", name="API key").fill("hr_secret")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("#health")).to_contain_text("Your queue is healthy.")
    page.reload()
    expect(page.locator("#health")).to_contain_text("Your queue is healthy.")
    assert "hr_secret" not in page.url
    assert not any("hr_secret" in one for one in recorded.asked)
    assert page.evaluate("JSON.stringify(localStorage)") == "{}"
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_role("dialog", name="This server asks for an API key")).to_be_visible()


def test_without_script_a_sentence_says_what_else_there_is(open_page: Opened, url: str) -> None:
    page = open_page(url, java_script_enabled=False, tolerant=True)
    expect(page.get_by_text("The console needs JavaScript")).to_be_visible()
    expect(page.get_by_text("headrace top")).to_be_visible()
