"""What dashboard and rules ask for is what running processes export: names, and labels too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from consumer.generation_metrics import REASONS
from consumer.queue.interface import Cause
from tests.children import ROOT
from tests.e2e.stack import Stack
from tests.helpers import eventually, write_models_file

MOST_SERIES = 500
WRITER = "test-metrics-writer"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ACCEPT_OF_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
ADDED_BY_PROMETHEUS = {"instance", "job"}
_NAME = r"(?<![:\w])(headrace_\w+)(?!:)"
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
OF_NETWORKS = {"headrace_model_tuned"}
"""Only exported of models that have a choice; tests/unit/consumer/test_metrics.py holds these."""

OUTCOME = r'headrace_requests_total\{[^}]*outcome=~?"([\w|]+)"'


@pytest.fixture(scope="module")
def addresses(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Addresses of ``/metrics`` after an answer, a refusal and a traced answer; bf16, so that there is a comparison."""
    folder, model = tmp_path_factory.mktemp("metrics"), "test-metrics"
    models = write_models_file(folder, model, "tests.e2e.pipeline.counted:create")
    with models.open("a") as more:
        more.write(f'[models.{WRITER}]\nfamily = "generate"\narchitecture = "null"\noptions = {{ step_ms = 5 }}\n')
    with Stack(valkey_url, models, PRECISION="bf16") as stack:
        stack.start_front_end(WEBHOOK_SECRETS=f"whsec_{b64encode(bytes(32)).decode()}")
        consumer, writer = stack.start_consumer(model), stack.start_consumer(WRITER, PRECISION="fp32")
        eventually(lambda: stack.predict(model, b"abc").status == 200)
        assert stack.predict("nobody", b"abc").status == 404

        # The reply leaves before the batch is counted.
        eventually(lambda: "headrace_batches_total{" in stack.metrics(consumer))
        headers = {"Content-Type": "application/octet-stream", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
        traced = urllib.request.Request(f"{stack.url}/v1/models/{model}/predict", b"abc", headers)
        with urllib.request.urlopen(traced, timeout=10) as answer:
            assert answer.status == 200
        stream_text(stack.url)
        places = [one.until("metrics at ").rpartition("metrics at ")[2].rstrip(".") for one in (consumer, writer)]
        yield {"front end": f"{stack.url}/metrics", "consumer": places[0], "writer": places[1]}


def stream_text(url: str) -> None:
    """Have a text generated, and read it as it comes; the request belongs to a trace."""
    asked = {"model": WRITER, "prompt": "on and on ", "max_tokens": 40, "temperature": 0, "stream": True}
    headers = {"Content-Type": "application/json", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    request = urllib.request.Request(f"{url}/v1/completions", json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.read().endswith(b"data: [DONE]\n\n")


def scrape(address: str, accept: str | None = None) -> tuple[str, str]:
    """Content type and text."""
    headers = {} if accept is None else {"Accept": accept}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


@pytest.fixture(scope="module")
def texts(addresses: dict[str, str]) -> dict[str, str]:
    """What they show whoever does not say what he wants."""
    return {process: scrape(address)[1] for process, address in addresses.items()}


def exported(texts: dict[str, str]) -> dict[str, set[str]]:
    """Every name of a sample, and the labels it has."""
    names: dict[str, set[str]] = {}
    for text in texts.values():
        for family in text_string_to_metric_families(text):
            for suffix in _SUFFIXES.get(family.type, ("",)):  # what has labels may have no samples yet
                names.setdefault(f"{family.name}{suffix}", set())
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


def documented() -> set[str]:
    return set(re.findall(r"`(headrace_\w+)", (ROOT / "docs/metrics.md").read_text()))


def families(texts: dict[str, str]) -> set[str]:
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported(texts)}


def test_everything_that_is_asked_for_is_exported(texts: dict[str, str]) -> None:
    asked = {name for expression in expressions() for name in re.findall(_NAME, expression)}
    assert len(asked) > 30
    assert asked - set(exported(texts)) - OF_NETWORKS == set()


def test_every_label_that_is_asked_for_is_there(texts: dict[str, str]) -> None:
    names, asked = exported(texts), 0
    for expression in expressions():
        for name, selectors in re.findall(_NAME + r"\{([^}]*)\}", expression):
            labels = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selectors))
            if name not in OF_NETWORKS and names[name]:
                asked += 1
                assert labels <= names[name] | ADDED_BY_PROMETHEUS, expression
    assert asked > 30


def test_everything_in_the_documents_is_exported(texts: dict[str, str]) -> None:
    assert documented() - families(texts) - OF_NETWORKS == set()


def test_everything_exported_is_in_the_documents(texts: dict[str, str]) -> None:
    ours = {name for name in families(texts) if name.startswith("headrace_") and not name.endswith("_created")}
    assert len(ours) > 30
    assert ours - documented() == set()


def test_what_alerts_ask_for_is_there_before_it_happens(texts: dict[str, str]) -> None:
    """To Prometheus a series that is born with its first failures has not grown."""
    shown = {line.rpartition(" ")[0] for text in texts.values() for line in text.splitlines()}
    asked = {code for rule in expressions() for codes in re.findall(OUTCOME, rule) for code in codes.split("|")}
    assert len(asked) > 10
    series = {f'headrace_requests_total{{model="test-metrics",outcome="{code}"}}' for code in asked}
    series |= {f'headrace_dead_letters_total{{model="test-metrics",reason="{one}"}}' for one in Cause}
    series |= {f'headrace_request_success_total{{finished_reason="{one}",model="{WRITER}"}}' for one in REASONS}
    series |= {f'headrace_{name}_total{{model="{WRITER}"}}' for name in ("resumed", "generation_tokens")}
    assert series - shown == set()


@pytest.mark.parametrize("process", ["front end", "consumer", "writer"])
def test_a_process_exports_few_series(texts: dict[str, str], process: str) -> None:
    samples = [one for family in text_string_to_metric_families(texts[process]) for one in family.samples]
    # The server is other tests' as well: a front end shows what their models have left.
    models = ("test-metrics", WRITER)
    ours = [one for one in samples if one.labels.get("model", "test-metrics") in models]
    assert 50 < len(ours) < MOST_SERIES


@pytest.mark.parametrize("process", ["front end", "consumer", "writer"])
def test_plain_text_is_for_those_who_do_not_ask_and_passes_promtool(addresses: dict[str, str], process: str) -> None:
    content_type, text = scrape(addresses[process])
    assert content_type.startswith("text/plain; version=0.0.4")
    assert "# {" not in text
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; it comes with Debian's package prometheus")
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("process", "durations"),
    [
        ("front end", {"http_request_duration", "reply_wait", "transport", "stream_time_to_first_token"}),
        ("consumer", {"queue_wait", "batch_wait"}),
        ("writer", {"queue_wait", "batch_wait", "time_to_first_token", "request_prefill_time", "e2e_request_latency"}),
    ],
)
def test_prometheus_finds_the_trace_of_a_request_with_its_latency(
    addresses: dict[str, str], process: str, durations: set[str]
) -> None:
    def exemplars() -> dict[str, str]:
        content_type, text = scrape(addresses[process], ACCEPT_OF_PROMETHEUS)
        assert content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
        families = openmetrics(text)  # type: ignore[no-untyped-call]
        samples = [sample for family in families for sample in family.samples]
        return {one.name: one.exemplar.labels["trace_id"] for one in samples if one.exemplar is not None}

    expected = dict.fromkeys((f"headrace_{name}_seconds_bucket" for name in durations), TRACE)
    eventually(lambda: exemplars() == expected)  # the consumer answers before it counts


def test_a_text_that_is_streamed_counts_on_both_sides(addresses: dict[str, str]) -> None:
    def values(process: str) -> dict[str, float]:
        text = scrape(addresses[process])[1]
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("model") == WRITER and sample.labels.get("finished_reason", "length") == "length"
        }

    writer = eventually(lambda: found if (found := values("writer"))["headrace_request_success_total"] else None)
    assert (writer["headrace_prompt_tokens_total"], writer["headrace_generation_tokens_total"]) == (10, 40)
    assert writer["headrace_engine_steps_total"] == 40
    assert writer["headrace_time_to_first_token_seconds_count"] == 1
    assert writer["headrace_inter_token_latency_seconds_count"] == 39
    assert 1 < writer["headrace_frames_total"] <= 40
    assert writer["headrace_num_requests_waiting"] == 0
    front_end = values("front end")
    assert front_end["headrace_stream_time_to_first_token_seconds_count"] == 1
    assert 1 <= front_end["headrace_stream_inter_frame_seconds_count"] < writer["headrace_frames_total"] + 1
    spent_s = writer["headrace_e2e_request_latency_seconds_sum"]
    assert 0 < writer["headrace_time_to_first_token_seconds_sum"] < spent_s


def test_tokens_of_batches_are_counted(texts: dict[str, str]) -> None:
    found = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in texts["consumer"].splitlines()
        if "_tokens_total{" in line
    }
    assert found['headrace_prompt_tokens_total{model="test-metrics"}'] >= 6  # two requests of three bytes
    assert found['headrace_padding_tokens_total{model="test-metrics"}'] == 0
