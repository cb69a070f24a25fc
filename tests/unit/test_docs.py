"""Documents that list what the code has: nothing may be missing, nothing may be made up."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from consumer.metrics import ConsumerMetrics
from producer_api.load.body_budget import Arrivals
from producer_api.metrics import ApiMetrics, queue_metrics
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])
CONSUMER_LIVE = {
    "headrace_batch_cost_fixed_seconds",
    "headrace_batch_cost_per_row_seconds",
    "headrace_batch_preferred_rows",
    "headrace_device_busy_ratio",
    "headrace_lane_bytes",
    "headrace_lane_limit_bytes",
    "headrace_queue_backlog",
    "headrace_queue_pending",
    "headrace_queue_oldest_age_seconds",
    "headrace_batch_working_rows",
    "headrace_batch_padded_rows_total",
    "headrace_model_info",
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
    ConsumerMetrics(registry, "m")
    ApiMetrics(registry, "0", None, 1, Arrivals(1))
    queue_metrics(registry)
    suffix = {"counter": "_total"}
    exported = {family.name + suffix.get(family.type, "") for family in registry.collect()} | CONSUMER_LIVE
    documented = set(re.findall(r"`(headrace_\w+)", (ROOT / "docs/metrics.md").read_text()))
    assert documented == exported


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
