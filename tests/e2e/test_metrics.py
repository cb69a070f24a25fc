"""What dashboard and rules ask for is what running processes export: names, and labels too."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.children import ROOT
from tests.e2e.stack import Stack
from tests.e2e.switchable import models_file
from tests.helpers import eventually

MOST_SERIES = 500
ADDED_BY_PROMETHEUS = {"instance", "job"}
_NAME = r"(?<![:\w])(headrace_\w+)(?!:)"


@pytest.fixture(scope="module")
def texts(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a front end and a consumer show after an answer and a refusal; bf16, so that there is a comparison."""
    folder, model = tmp_path_factory.mktemp("metrics"), "test-metrics"
    with Stack(valkey_url, models_file(folder, model), PRECISION="bf16") as stack:
        stack.start_front_end()
        consumer = stack.start_consumer(model)
        eventually(lambda: stack.predict(model, b"abc").status == 200)
        assert stack.predict("nobody", b"abc").status == 404

        # The reply leaves before the batch is counted.
        eventually(lambda: "headrace_batches_total{" in stack.metrics(consumer))
        with urllib.request.urlopen(f"{stack.url}/metrics", timeout=10) as answer:
            yield {"front end": answer.read().decode(), "consumer": stack.metrics(consumer)}


def exported(texts: dict[str, str]) -> dict[str, set[str]]:
    """Every name of a sample, and the labels it has."""
    names: dict[str, set[str]] = {}
    for text in texts.values():
        for family in text_string_to_metric_families(text):
            if family.type == "counter":
                names.setdefault(f"{family.name}_total", set())  # a labelled counter without samples yet
            for sample in family.samples:
                names.setdefault(sample.name, set()).update(sample.labels)
    return names


def expressions() -> list[str]:
    dashboard: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/headrace.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [variable["query"]["query"] for variable in dashboard["templating"]["list"]]
    for path in sorted(Path(ROOT / "deploy/prometheus/rules").glob("*.yml")):
        asked += [rule["expr"] for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    return asked


def test_everything_that_is_asked_for_is_exported(texts: dict[str, str]) -> None:
    asked = {name for expression in expressions() for name in re.findall(_NAME, expression)}
    assert len(asked) > 30
    assert asked - set(exported(texts)) == set()


def test_every_label_that_is_asked_for_is_there(texts: dict[str, str]) -> None:
    names, asked = exported(texts), 0
    for expression in expressions():
        for name, selectors in re.findall(_NAME + r"\{([^}]*)\}", expression):
            labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selectors))
            if names[name]:
                asked += 1
                assert labels <= names[name] | ADDED_BY_PROMETHEUS, expression
    assert asked > 30


def test_everything_in_the_documents_is_exported(texts: dict[str, str]) -> None:
    documented = set(re.findall(r"`(headrace_\w+)", (ROOT / "docs/metrics.md").read_text()))
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported(texts)}
    assert documented - names == set()


@pytest.mark.parametrize("process", ["front end", "consumer"])
def test_a_process_exports_few_series(texts: dict[str, str], process: str) -> None:
    assert sum(len(family.samples) for family in text_string_to_metric_families(texts[process])) < MOST_SERIES
