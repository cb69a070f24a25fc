"""Rules, alerts and dashboard: accepted by Prometheus, firing when they should, and at one with code and documents."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.metrics.histograms import LATENCY_BUCKETS_S
from shared.wire.outcomes import ALL

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "headrace.json"


def promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed; it comes with Debian's package prometheus")
    ran = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def every_rule() -> list[dict[str, Any]]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in every_rule() if "alert" in rule}


def test_promtool_accepts_the_configuration_and_its_rules() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    promtool("test", "rules", path)


def test_prometheus_keeps_the_exemplars_that_the_dashboard_shows() -> None:
    command = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["prometheus"]["command"]
    assert "--enable-feature=exemplar-storage" in command
    panels = json.loads(DASHBOARD.read_text())["panels"]
    shown = [one["expr"] for panel in panels for one in panel.get("targets", []) if one.get("exemplar")]
    assert any("headrace_http_request_duration_seconds_bucket" in expression for expression in shown)


def test_prometheus_loads_every_rule_file() -> None:
    [pattern] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["rule_files"]
    assert sorted(FOLDER.glob(pattern)) == RULES
    [mounted] = [
        volume
        for volume in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["prometheus"]["volumes"]
        if volume.startswith("./deploy/prometheus:")
    ]
    assert mounted == "./deploy/prometheus:/etc/prometheus:ro"


def test_every_alert_has_a_test_that_sees_it_fire() -> None:
    fired = {
        check["alertname"]
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for check in test.get("alert_rule_test", [])
        if check["exp_alerts"]
    }
    assert fired == set(alerts())


def test_every_alert_says_who_is_woken_and_has_its_paragraph() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    assert set(re.findall(r"`(Headrace[A-Z]\w+)`", page)) == set(alerts())
    for rule in alerts().values():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert (ROOT / rule["annotations"]["page"]).is_file()


def test_a_failure_is_what_has_a_status_of_500_or_above() -> None:
    [rule] = [rule for rule in every_rule() if rule.get("record") == "model:headrace_requests_failed:rate5m"]
    [codes] = re.findall(r'outcome=~"([a-z_|]+)"', rule["expr"])
    assert sorted(codes.split("|")) == sorted(outcome.code for outcome in ALL if outcome.status >= 500)


def test_outcomes_that_alerts_name_exist() -> None:
    named = {code for rule in every_rule() for code in re.findall(r'outcome=~?"([\w|]+)"', rule["expr"])}
    assert named
    assert {code for codes in named for code in codes.split("|")} <= {outcome.code for outcome in ALL}


def test_the_latency_objective_is_the_budget_of_imagenet_and_an_edge_of_the_buckets() -> None:
    budget_ms = tomllib.loads((ROOT / "budgets.toml").read_text())["models"]["imagenet"]["p95_ms"]
    edges = {float(edge) for rule in every_rule() for edge in re.findall(r'le="([\d.]+)"', rule["expr"])}
    assert edges == {budget_ms / 1000}
    assert edges <= set(LATENCY_BUCKETS_S)
    for rule in alerts().values():
        if "Latency" in rule["alert"]:
            assert f"{budget_ms} ms" in rule["annotations"]["summary"]


def test_rules_read_only_what_others_record() -> None:
    recorded = {rule["record"] for rule in every_rule() if "record" in rule}
    dashboard = DASHBOARD.read_text()
    read = {name for rule in every_rule() for name in re.findall(r"\w+:headrace_\w+:\w+", rule["expr"])}
    assert read <= recorded
    assert set(re.findall(r"\w+:headrace_\w+:\w+", dashboard)) <= recorded


def test_the_dashboard_shows_every_metric() -> None:
    documented = set(re.findall(r"`(headrace_\w+)", (ROOT / "docs" / "metrics.md").read_text()))
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    shown = {name for expression in expressions for name in re.findall(r"headrace_\w+", expression)}
    assert documented <= {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}


def test_promtool_accepts_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    filled = [one.replace("$__rate_interval", "1m").replace("$model", ".*") for one in expressions]
    assert not any("$" in one for one in filled)
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(filled)]
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", path)


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    everything = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in everything)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23


def test_every_panel_says_what_it_shows() -> None:
    assert [panel["title"] for panel in panels() if not panel.get("description")] == []
