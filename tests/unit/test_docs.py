"""Documents that list what the code has: nothing may be missing, nothing may be made up."""

from __future__ import annotations

import ast
import re
import time
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from consumer.metrics import ConsumerMetrics
from producer_api.caching.equal_requests import EqualRequests
from producer_api.caching.metrics import CacheMetrics
from producer_api.load.answer_budget import AnswerBudget
from producer_api.load.body_budget import BodyBudget
from producer_api.load.in_flight import InFlight
from producer_api.metrics import ApiMetrics, WebhookMetrics, later_metrics, queue_metrics
from shared.settings import PREFIX, Settings
from tests.fakes import InMemoryQueue
from tests.test_architecture import FLOORS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
CONSUMER_LIVE = {
    "headrace_batch_cost_fixed_seconds",
    "headrace_batch_cost_per_row_seconds",
    "headrace_batch_preferred_rows",
    "headrace_device_busy_ratio",
    "headrace_lane_bytes",
    "headrace_lane_limit_bytes",
    "headrace_lane_limit_prompt_tokens",
    "headrace_lane_prompt_tokens",
    "headrace_queue_backlog",
    "headrace_queue_pending",
    "headrace_queue_oldest_age_seconds",
    "headrace_batch_working_rows",
    "headrace_batch_padded_rows_total",
    "headrace_model_info",
    "headrace_num_requests_waiting",
    "headrace_padding_tokens_total",
    "headrace_model_tuned",
    "headrace_precision_top1_agreement",
    "headrace_precision_largest_difference",
}


def test_every_setting_has_a_line_with_its_default() -> None:
    lines = (ROOT / "docs/settings.md").read_text().splitlines()
    rows = {cells[1].strip(" `"): cells[2].strip() for cells in (line.split("|") for line in lines) if len(cells) == 5}
    documented = {name: default for name, default in rows.items() if name.startswith(PREFIX)}
    assert set(documented) == {PREFIX + field.name.upper() for field in fields(Settings)}
    defaults = Settings()
    for field in fields(Settings):
        value = getattr(defaults, field.name)
        if value is not None:
            shown = ",".join(value) if isinstance(value, tuple) else str(value)
            assert documented[PREFIX + field.name.upper()] == shown


def test_every_metric_has_a_line() -> None:
    registry = CollectorRegistry()
    ConsumerMetrics(registry, "m").generations()
    ApiMetrics(registry, "0", None, InFlight(1), BodyBudget(1), AnswerBudget(1, 1.0)).show_listeners(int)
    queue_metrics(registry)
    WebhookMetrics(registry)
    later_metrics(registry)
    CacheMetrics(EqualRequests(InMemoryQueue(), time.monotonic), registry)
    suffix = {"counter": "_total"}
    exported = {family.name + suffix.get(family.type, "") for family in registry.collect()} | CONSUMER_LIVE
    documented = set(re.findall(r"`(headrace_\w+)", (ROOT / "docs/metrics.md").read_text()))
    assert documented == exported


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        if "://" not in target:
            linked = (page.parent / target).resolve() if target else page
            assert linked.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}#{anchor}"


def test_the_index_lists_every_page_and_the_readme_links_the_index() -> None:
    index = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs/README.md").read_text()))
    assert index == {page.name for page in ROOT.glob("docs/*.md")} - {"README.md"}
    assert {"docs/README.md", "docs/glossary.md"} <= set(re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text()))


NAMED = re.compile(r"`((?:shared|producer_api|consumer|headrace|loadgen|tests|deploy|examples)/[\w/.-]*[\w/])`")
DIARY = ROOT / "docs/performance-notes.md"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_file_and_folder_that_a_page_names_is_there(page: Path) -> None:
    """The diary alone may name what is gone."""
    gone = [name for name in NAMED.findall(page.read_text()) if not (ROOT / name).exists()]
    assert gone == [] or page == DIARY


def test_the_architecture_page_lists_every_folder_of_the_floors() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    block = page.split("<!-- folders:begin")[1].split("<!-- folders:end -->")[0]
    folders = {
        f"{package}/{room}" for package in FLOORS for floor in FLOORS[package] for room in floor if room[-1] == "/"
    }
    assert set(re.findall(r"^\| \**`([\w/]+)`", block, re.MULTILINE)) == folders | {f"{package}/" for package in FLOORS}


@cache
def classes(file: str) -> frozenset[str]:
    path = ROOT / file
    tree = ast.parse(path.read_text() if path.exists() else "")
    return frozenset(node.name for node in tree.body if isinstance(node, ast.ClassDef))


def test_every_class_of_the_internals_is_in_the_file_beside_it() -> None:
    """Each line names classes in bold, and behind them, in brackets, the files that they are in."""
    page = (ROOT / "docs/internals.md").read_text()
    groups = re.findall(r"((?:\*\*`\w+`\*\*,?\s+)+)\(((?:`[\w/.]+`,?\s*)+)\)", page)
    named = [(name, re.findall(r"`([^`]+)`", files)) for names, files in groups for name in re.findall(r"\w+", names)]
    assert len(named) == len(re.findall(r"\*\*`\w+`\*\*", page)) > 30
    gone = {name: files for name, files in named if not any(name in classes(file) for file in files)}
    assert gone == {}, "renamed? write the new name into docs/internals.md"


def test_the_way_of_a_request_has_at_most_ten_steps_of_one_file_each() -> None:
    way = (ROOT / "docs/internals.md").read_text().split("## The way of a request")[1].split("\n## ")[0]
    steps = re.findall(r"^\| (\d+) \| `[\w/.]+` \|", way, re.MULTILINE)
    assert steps == [str(number) for number in range(1, len(steps) + 1)]
    assert 5 <= len(steps) <= 10
