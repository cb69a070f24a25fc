"""``loadgen sweep --models`` against a running stack: two models, one page."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.e2e.loadgen.bench import Bench, make_bench, schema
from tests.e2e.stack import Stack, echo_models
from tests.proof.null_server import null_server


@pytest.fixture(scope="module")
def served(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, list[str], list[str]]]:
    """A stack with two models, their names, and where their consumers' metrics are."""
    names = [f"test-{kind}-{secrets.token_hex(4)}" for kind in ("one", "two")]
    with Stack(valkey_url, echo_models(tmp_path_factory.mktemp("sweeps"), *names)) as stack:
        processes = [stack.begin_consumer(name) for name in names]
        stack.start_front_end()
        addresses = []
        for process, name in zip(processes, names, strict=True):
            addresses.append(process.until("metrics at ").rpartition("metrics at ")[2].rstrip("."))
            stack.wait(name)
        yield stack, names, addresses


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "bytes").write_bytes(b"hello")
    return make_bench(tmp_path, "")


def test_two_models_on_one_page(bench: Bench, served: tuple[Stack, list[str], list[str]]) -> None:
    stack, names, addresses = served
    budgets = "".join(
        f"[models.{name}]\np95_ms = {limit}\npayload = 'bytes'\n"
        for name, limit in zip(names, (9000, 8000), strict=True)
    )
    (bench.folder / "budgets.toml").write_text(budgets)
    metrics = [part for address in addresses for part in ("--metrics", address)]
    done = bench.run(
        "sweep", "--url", stack.url, "--models", ",".join(names), "--budgets", "budgets.toml", "--rates", "40,20",
        "--duration", "300ms", "--cost-per-hour", "3.6", *metrics, "--out", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((bench.folder / "out" / "models.json").read_text())
    jsonschema.Draft202012Validator(schema("models")).validate(found)
    sweeps = [model["sweep"] for model in found["models"]]
    assert [sweep["model"] for sweep in sweeps] == names
    assert [sweep["target_p95_ms"] for sweep in sweeps] == [9000, 8000]
    for sweep in sweeps:
        assert [point["rate_per_s"] for point in sweep["points"]] == [20, 40]
        assert all(point["device_ms"] > 0 for point in sweep["points"])
        assert sweep["card"]["name"] == sweep["model"]
    # They took turns: each rate of the one, then the same of the other.
    order = [line.split()[0] for line in done.stdout.splitlines() if re.match(r"test-\w+-\w+ +[0-9.]+/s", line)]
    assert order == [*names, *names]
    page = (bench.folder / "out" / "report.html").read_text()
    assert all(name in page for name in names)
    assert "cost of 1,000 answers" in page
    assert (bench.folder / "out" / "report.md").read_text().count(names[0]) >= 1


STACK = """
import os, signal
print("  API        {url}")
print("             {url}/metrics (consumer null)")
print("Ctrl-C stops everything." if os.environ["HEADRACE_MODELS"] == "null" else "It has no weights.", flush=True)
if os.environ["HEADRACE_MODELS"] == "null":
    signal.pause()
"""


def test_each_model_has_a_stack_of_its_own_and_what_was_measured_is_kept(bench: Bench) -> None:
    package = bench.folder / "checkout" / "headrace"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with null_server() as server:
        (package / "__main__.py").write_text(STACK.format(url=f"http://127.0.0.1:{server.port}"))
        done = bench.run(
            "sweep", "--stack", "checkout", "--models", "null,broken", "--payload", "bytes", "--rates", "20",
            "--duration", "200ms", "--p95-ms", "9000", "--out", "out",
        )  # fmt: skip
    assert done.returncode != 0
    assert "did not get ready: It has no weights." in done.stderr
    found = json.loads((bench.folder / "out" / "models.json").read_text())
    assert [model["sweep"]["model"] for model in found["models"]] == ["null"]
    assert (found["alone"], found["partial"]) == (True, True)
    page = (bench.folder / "out" / "report.html").read_text()
    assert "It was broken off." in page and "Each model had the machine to itself." in page


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--models", "a", "--url", "http://127.0.0.1:1"), "compares 2 to 4 models, not 1"),
        (("--models", "a,b"), "Give --url, where all models are served, or --stack"),
        (("--models", "a,b", "--model", "c", "--url", "http://127.0.0.1:1"), "Give --model, or --models"),
        (("--model", "a", "--url", "http://127.0.0.1:1", "--cost-per-hour", "1"), "are for --models"),
    ],
)
def test_options_that_make_no_comparison_are_refused(bench: Bench, options: tuple[str, ...], told: str) -> None:
    refused = bench.run("sweep", *options, "--payload", "photo.jpg", "--rates", "5", "--out", "out")
    assert refused.returncode == 2
    assert told in refused.stderr


def test_a_model_that_is_not_there_is_named(bench: Bench, served: tuple[Stack, list[str], list[str]]) -> None:
    stack, names, _ = served
    asked = ("sweep", "--url", stack.url, "--models", f"{names[0]},gone", "--payload", "photo.jpg", "--rates", "5")
    done = bench.run(*asked, "--duration", "200ms", "--out", "out")
    assert done.returncode != 0
    assert "no model named 'gone'" in done.stderr
    assert not (bench.folder / "out" / "models.json").exists()
